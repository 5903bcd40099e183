"""One question per file. A check's docstring is its page."""

from typing import Final

from palate.audit.check import Check
from palate.audit.checks.t006_ties import Ties

CHECKS: Final[tuple[Check, ...]] = (Ties(),)
