"""β conventions, by hand: effective multiplier = our β / 2."""

from fractions import Fraction

import pytest

from palate.core.problems import SettingError
from palate.recipes.beta import CONVENTIONS, OTHER_NAMES, convention, multiplier, table, to_ours


@pytest.mark.parametrize(
    ("name", "beta", "effective", "ours"),
    [
        ("palate", 2000, 1000, 2000),
        ("salesforce", 5000, 2500, 5000),
        ("sdpo", 5000, 2500, 5000),
        ("diffusers-sdxl", 5000, 2500, 5000),
        ("diffusers-sd15", 2500, 2500, 5000),
        ("longcat", 2000, 2000, 4000),
        ("verl-omni", 100, 50, 100),
        ("flow-factory", 2000, 1000, 2000),
        ("flow-grpo", 100, 50, 100),
        ("invoke-training", 5000, 5000, 10000),
    ],
)
def test_the_mean_conventions_by_hand(name, beta, effective, ours):
    assert multiplier(convention(name), beta) == Fraction(effective)
    assert to_ours(name, beta) == ours


def test_simpletuner_sums_half_beta_over_262144_elements():
    """0.01 · 262144 / 2 = 1310.72 is the multiplier, twice that is our β."""
    assert multiplier(convention("simpletuner"), 0.01, 262144) == Fraction(0.01) * 131072
    assert to_ours("simpletuner", 0.01, 262144) == 0.01 * 262144


def test_the_papers_sum_is_the_released_codes_beta_over_two_elements():
    """5000 in the released code = 5000 / (2 · 16384) = 0.152587890625 in the paper's equation."""
    assert to_ours("paper-sum", 0.152587890625, 16384) == 5000.0


@pytest.mark.parametrize("each", CONVENTIONS, ids=lambda each: each.name)
def test_there_and_back_is_exact(each):
    effective = multiplier(convention("palate"), 5000.0)
    values = {equal.convention.name: equal.beta for equal in table(effective, 65536)}
    assert to_ours(each.name, values[each.name], 65536) == 5000.0


def test_a_sum_without_elements_is_left_open_in_the_table_and_refused_as_a_source():
    values = {equal.convention.name: equal.beta for equal in table(Fraction(1000))}
    assert values["simpletuner"] is None
    assert values["palate"] == 2000.0
    with pytest.raises(SettingError, match=r"sums errors.*Add --elements: 16384"):
        to_ours("simpletuner", 1.0)


def test_other_names_and_capitals_are_understood():
    assert convention("HF-SD1.5").name == "diffusers-sd15"
    assert all(convention(other) for other in OTHER_NAMES)


def test_a_wrong_name_is_answered_with_the_nearest():
    with pytest.raises(SettingError, match="Did you mean longcat"):
        convention("longcta")


@pytest.mark.parametrize("beta", [0.0, -1.0, float("nan"), float("inf")])
def test_a_beta_that_is_no_positive_number_is_refused(beta):
    with pytest.raises(SettingError, match="Need a positive number"):
        to_ours("palate", beta)


@pytest.mark.parametrize("elements", [0, -5])
def test_a_latent_without_elements_is_refused(elements):
    with pytest.raises(SettingError, match="Need at least one"):
        to_ours("simpletuner", 1.0, elements)
