"""What can go wrong, said in three parts: what was got, what is needed, how to fix it.

Every error a user can cause is a `Problem`. The command line prints its three parts without a
traceback and leaves with the problem's own exit code, so that scripts can tell bad settings
from bad data from a run that its guards stopped.
"""

import difflib
from collections.abc import Iterable
from typing import ClassVar


class Problem(Exception):  # noqa: N818 - a problem is what the user has, not what Python raised
    """Something the user can fix.

    Attributes:
        got: What was found.
        need: What would have been right.
        fix: What to do about it.
        exit_code: What the command line leaves with.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, *, got: str, need: str, fix: str) -> None:
        self.got, self.need, self.fix = got, need, fix
        super().__init__(f"Got {_stop(got)} Need {_stop(need)} {_stop(fix)}")


class SettingError(Problem):
    """A setting, flag or configuration file is wrong. Nothing was loaded or written."""

    exit_code = 2


class DataError(Problem):
    """Preference data, an image or a snapshot cannot be used."""

    exit_code = 3


class WeightsError(Problem):
    """A model folder or a weights file cannot be used."""

    exit_code = 4


class StateError(Problem):
    """A run directory, checkpoint or cache is locked, damaged or does not match."""

    exit_code = 5


class HealthStop(Problem):
    """A guard stopped the training. The last good checkpoint is kept."""

    exit_code = 6


class MissingExtra(Problem):
    """An optional package is not installed."""

    exit_code = 7


def require(
    condition: bool, *, got: str, need: str, fix: str, kind: type[Problem] = SettingError
) -> None:
    """Raise `kind` with the three parts unless the condition holds.

    Raises:
        Problem: of the given kind, when `condition` is false.
    """
    if not condition:
        raise kind(got=got, need=need, fix=fix)


def nearest(word: str, options: Iterable[str]) -> str | None:
    """The option a typing mistake most probably meant, or None."""
    close = difflib.get_close_matches(word, list(options), n=1, cutoff=0.5)
    return close[0] if close else None


def unknown(what: str, word: str, options: Iterable[str]) -> SettingError:
    """The error for a name that does not exist, with the nearest one that does."""
    names = sorted(options)
    guess = nearest(word, names)
    return SettingError(
        got=f"{what}={word!r}",
        need=f"one of {', '.join(names)}",
        fix=f"Did you mean {guess}?" if guess else f"Choose a {what} from the list.",
    )


def _stop(text: str) -> str:
    """Close a part with a full stop, once."""
    text = text.strip()
    return text if text.endswith((".", "?", "!")) else f"{text}."
