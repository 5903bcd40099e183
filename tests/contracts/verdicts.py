"""Which promises something breaks; for planted bugs, which must break at least one."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest


def failing(checks: Iterable[Callable[[Any], None]], subject: Any) -> set[str]:
    """The names of the checks that a subject fails, in whatever way."""
    found = set()
    for check in checks:
        try:
            check(subject)
        except (Exception, pytest.fail.Exception):
            found.add(check.__name__)
    return found
