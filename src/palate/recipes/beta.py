"""Converts β between the conventions in use, exactly.

Every implementation of Diffusion-DPO forms the same logit, multiplier × margin, and disagrees
on how β enters the multiplier: halved or not, on errors averaged over the elements of a latent
or summed over them. The **effective multiplier** (on the difference of per-element-mean squared
errors) is what two conventions must share to mean the same. Here it is β/2.

Read next: `palate/objectives/dpo.py`, which uses it.
"""

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import final

from palate.core.problems import SettingError, require, unknown

OURS = "palate"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Convention:
    """How one implementation turns its β into a logit.

    Attributes:
        name: What it is called here and on the command line.
        formula: Its multiplier of the margin, as its code writes it.
        factor: What β is multiplied with, before any sum over elements.
        summed: Whether its errors are summed over the elements of a latent, not averaged.
        usual: The β its launchers or documents use, in words.
        remark: What else must be known before two numbers are compared.
    """

    name: str
    formula: str
    factor: Fraction
    summed: bool = False
    usual: str = ""
    remark: str = ""


HALF, ONE = Fraction(1, 2), Fraction(1)

CONVENTIONS = (
    Convention(name=OURS, formula="β/2 · Δmean", factor=HALF, usual="2000"),
    Convention(
        name="salesforce",
        formula="β/2 · Δmean",
        factor=HALF,
        usual="5000",
        remark="the released Diffusion-DPO code",
    ),
    Convention(name="sdpo", formula="β/2 · Δmean", factor=HALF, usual="5000"),
    Convention(name="diffusers-sdxl", formula="β/2 · Δmean", factor=HALF, usual="5000"),
    Convention(
        name="diffusers-sd15",
        formula="β · Δmean",
        factor=ONE,
        usual="2500",
        remark="no half, unlike its SDXL sibling",
    ),
    Convention(name="longcat", formula="β · Δmean", factor=ONE, usual="2000"),
    Convention(
        name="verl-omni",
        formula="β/2 · Δmean",
        factor=HALF,
        usual="2000, online recipe 100",
    ),
    Convention(name="flow-factory", formula="β/2 · Δmean", factor=HALF, usual="2000 or 100"),
    Convention(name="flow-grpo", formula="β/2 · Δmean", factor=HALF, usual="100"),
    Convention(
        name="invoke-training",
        formula="β · Δ(batch mean)",
        factor=ONE,
        usual="5000",
        remark="averages over the batch before the sigmoid: comparable at batch 1 only",
    ),
    Convention(
        name="simpletuner",
        formula="β/2 · Δsum",
        factor=HALF,
        summed=True,
        usual="automatic, 0.001 to 1",
    ),
    Convention(
        name="paper-sum",
        formula="β · Δsum",
        factor=ONE,
        summed=True,
        remark="the paper's equation as printed: norms are sums",
    ),
)
BY_NAME = {convention.name: convention for convention in CONVENTIONS}
OTHER_NAMES = {
    "hf-sdxl": "diffusers-sdxl",
    "hf-sd1.5": "diffusers-sd15",
    "hf-sd15": "diffusers-sd15",
    "diffusers-sd1.5": "diffusers-sd15",
    "longcat-image": "longcat",
    "flow_grpo": "flow-grpo",
    "flow_factory": "flow-factory",
    "verl_omni": "verl-omni",
    "invoke": "invoke-training",
    "paper": "paper-sum",
}


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Equal:
    """One β in one convention, equal to all others of the same table.

    Attributes:
        convention: Whose β it is.
        beta: The value there; None where it takes the number of elements to know it.
    """

    convention: Convention
    beta: float | None


def convention(name: str) -> Convention:
    """Find a convention by its name, in any case, or by another name it goes by.

    Raises:
        SettingError: when there is none, with the nearest name.
    """
    word = name.strip().lower()
    word = OTHER_NAMES.get(word, word)
    if word not in BY_NAME:
        raise unknown("convention", name, BY_NAME)
    return BY_NAME[word]


def multiplier(source: Convention, beta: float, elements: int | None = None) -> Fraction:
    """The effective multiplier of the mean-error margin that a β means, exactly.

    Raises:
        SettingError: when β is not a positive number, or the convention sums over elements and
            their number is not given.
    """
    require(
        math.isfinite(beta) and beta > 0,
        got=f"β = {beta}",
        need="a positive number",
        fix="Give β as the other implementation's settings have it.",
    )
    return Fraction(beta) * source.factor * _sum(source, elements)


def to_ours(name: str, beta: float, elements: int | None = None) -> float:
    """Our β (logit = β/2 · margin of mean errors) for a β of another convention.

    Raises:
        SettingError: as `convention` and `multiplier` do.
    """
    return float(2 * multiplier(convention(name), beta, elements))


def table(effective: Fraction, elements: int | None = None) -> list[Equal]:
    """The β of every convention that has this effective multiplier."""
    return [Equal(convention=each, beta=_beta(each, effective, elements)) for each in CONVENTIONS]


def _beta(target: Convention, effective: Fraction, elements: int | None) -> float | None:
    if target.summed and elements is None:
        return None
    return float(effective / (target.factor * _sum(target, elements)))


def _sum(source: Convention, elements: int | None) -> int:
    """How many times larger a summed error is than a mean one."""
    if not source.summed:
        return 1
    if elements is None:
        raise SettingError(
            got=f"{source.name}, which sums errors over the elements of a latent",
            need="the number of elements",
            fix="Add --elements: 16384 for SD 1.5 at 512×512, 65536 for SDXL at 1024×1024, "
            "262144 for SD 3 at 1024×1024.",
        )
    require(
        elements > 0,
        got=f"{elements} elements",
        need="at least one",
        fix="Channels × height × width of the latent: 16384 for SD 1.5 at 512×512.",
    )
    return elements
