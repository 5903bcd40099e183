"""Refusals that many objectives share: a setting outside its range, evidence of another kind."""

import math
from collections.abc import Iterable
from dataclasses import replace

from palate.core.contrast import Branch, Contrast, Denoised, Stepped
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


def clipped(pairs: Contrast, epsilon: float) -> Contrast:
    """The same steps, each with its ratio of policy to reference held within 1 ± epsilon.

    Raises:
        SettingError: when the evidence is not steps.
    """
    chosen, rejected = pairs.chosen, pairs.rejected
    if isinstance(chosen, Stepped) and isinstance(rejected, Stepped):
        return replace(pairs, chosen=chosen.clipped(epsilon), rejected=rejected.clipped(epsilon))
    raise SettingError(
        got=f"clip={epsilon} on evidence that is not steps of a sampler",
        need="log-probabilities of steps on both sides, whose ratios can be clipped",
        fix="Train on pictures that the policy draws, or give Stepped branches.",
    )
