"""Refusals that many objectives share: a setting outside its range, evidence of another kind."""

import math
from collections.abc import Iterable

from palate.core.contrast import Branch, Denoised
from palate.core.problems import SettingError, require, unknown


def positive(name: str, value: float, fix: str) -> None:
    """Refuse a setting that is not a finite number above zero.

    Raises:
        SettingError: with the fix in words.
    """
    require(value > 0 and math.isfinite(value), got=f"{name}={value}", need=f"{name} > 0", fix=fix)


def within(name: str, value: float, lowest: float, below: float, fix: str) -> None:
    """Refuse a setting outside [lowest, below).

    Raises:
        SettingError: with the fix in words.
    """
    require(
        lowest <= value < below,
        got=f"{name}={value}",
        need=f"{lowest:g} <= {name} < {below:g}",
        fix=fix,
    )


def one_of(name: str, value: str, options: Iterable[str]) -> None:
    """Refuse a word that is not among the options.

    Raises:
        SettingError: with the nearest option.
    """
    words = tuple(options)
    if value not in words:
        raise unknown(name, value, words)


def predicted(branch: Branch | None) -> Denoised:
    """Evidence that holds predictions themselves.

    Raises:
        SettingError: when only errors are known.
    """
    if isinstance(branch, Denoised):
        return branch
    raise SettingError(
        got="errors without the predictions they were taken from",
        need="predictions of policy and reference, and their target",
        fix="Give Denoised branches; a training collects them for an objective that needs them.",
    )
