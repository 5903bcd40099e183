"""Numbers and strangers' words, made fit to print.

Every face of a report writes a number the same way, because it is written here.
"""

import unicodedata
from collections.abc import Mapping
from typing import Any

from palate.core.stats import Estimate

MINUS = "\u2212"
_DASH = "\u2013"
_NO_INTERVAL = "no interval from one prompt"
# Characters that reorder or hide the text around them, beside the control characters.
_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
# Joiners only shape emoji and words: many languages need them.
_JOINERS = {"\u200c", "\u200d"}


def plain(text: object, *, most: int = 400) -> str:
    """A stranger's text without control or direction characters, on one line, at most so long."""
    shown = "".join(
        " " if letter.isspace() else "\ufffd" if _is_hidden(letter) else letter
        for letter in str(text)[: most + 1]
    )
    return shown if len(shown) <= most else f"{shown[: most - 1]}…"


def percent(share: float) -> str:
    """A share as a percentage: whole, but never 0 or 100 for what is not quite that."""
    whole = round(100 * share)
    exact = abs(share - whole / 100) < 1e-9
    digits = 1 if whole in (0, 100) and not exact else 0
    return f"{signless(100 * share, digits)} %"


def interval(estimate: Estimate) -> str:
    """The ends of an interval of shares, such as `72–83 %`."""
    low, high = percent(estimate.low), percent(estimate.high)
    return f"{low.removesuffix(' %')}{_DASH}{high}"


def change(ratio: Estimate) -> tuple[str, str]:
    """A ratio of means as a change in percent, and its interval."""
    value, low, high = (100 * (end - 1) for end in (ratio.value, ratio.low, ratio.high))
    digits = 1 if abs(value) < 10 else 0
    ends = f"{signed(low, digits)} to {signed(high, digits)} %" if ratio.bounded else _NO_INTERVAL
    return f"{signed(value, digits)} %", ends


def drifted(share: float) -> str:
    """A relative drift in percent, with its sign."""
    return f"{signed(100 * share, 1 if abs(share) < 0.1 else 0)} %"


def number(value: float) -> str:
    """A number with three significant digits and no exponent where it can be helped."""
    size = abs(value)
    if value == 0 or 1e-4 <= size < 1e6:
        digits = 0 if size >= 1000 else 1 if size >= 100 else 2 if size >= 10 else 3
        digits = digits if size >= 0.1 or value == 0 else 4 if size >= 0.01 else 5
        return signless(value, digits)
    return f"{value:.2e}".replace("-", MINUS)


def difference(estimate: Estimate) -> tuple[str, str]:
    """A difference with its sign, and its interval."""
    ends = (estimate.value, estimate.low, estimate.high)
    value, low, high = (f"+{number(end)}" if end > 0 else number(end) for end in ends)
    return value, f"{low} to {high}" if estimate.bounded else _NO_INTERVAL


def probability(value: float) -> str:
    """A p-value as it should be read: small ones are only small."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}" if value < 0.1 else f"{value:.2f}"


def signed(value: float, digits: int) -> str:
    """A number with its sign; no sign on what rounds to zero."""
    text = signless(value, digits)
    return f"+{text}" if value > 0 and float(text.replace(MINUS, "-")) else text


def signless(value: float, digits: int) -> str:
    """A number with a real minus, and never a negative zero."""
    text = f"{value:,.{digits}f}"
    return text.removeprefix("-") if not float(text.replace(",", "")) else text.replace("-", MINUS)


def count(many: int, noun: str) -> str:
    """A number of things: `1 prompt`, `1,914 pairs`."""
    return f"{many:,} {noun}" if many == 1 else f"{many:,} {noun}s"


def duration(seconds: float) -> str:
    """A wall time in the unit a person would use."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """A nested record as dotted names and printable values."""
    rows: dict[str, str] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            rows |= flat(value, f"{name}.")
        elif isinstance(value, list | tuple):
            rows[name] = ", ".join(str(item) for item in value) or "none"
        else:
            rows[name] = "none" if value is None else str(value)
    return rows


def _is_hidden(letter: str) -> bool:
    return unicodedata.category(letter) in _HIDDEN and letter not in _JOINERS
