"""Numbers and strangers' words, by hand."""

import pytest

from palate.core.stats import Estimate
from palate.report.words import (
    change,
    count,
    difference,
    duration,
    flat,
    interval,
    number,
    percent,
    plain,
    probability,
    signed,
)


def estimate(value, low, high):
    return Estimate(value=value, low=low, high=high, n=10, measurements=10)


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.784, "78 %"),
        (0.5, "50 %"),
        (1.0, "100 %"),
        (0.998, "99.8 %"),
        (0.002, "0.2 %"),
        (0, "0 %"),
    ],
)
def test_percent_is_whole_but_never_claims_all_or_nothing(share, text):
    assert percent(share) == text


def test_an_interval_and_a_change():
    assert interval(estimate(0.78, 0.721, 0.829)) == "72–83 %"
    assert change(estimate(0.774, 0.74, 0.816)) == ("−23 %", "−26 to −18 %")
    assert change(estimate(1.013, 0.99, 1.04)) == ("+1.3 %", "−1.0 to +4.0 %")
    assert difference(estimate(-0.25, -0.5, 0.125)) == ("−0.250", "−0.500 to +0.125")


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0.000"), (-1.5, "−1.500"), (1234.5, "1,234"), (12.345, "12.35"), (1e-7, "1.00e−07")],
)
def test_numbers_have_about_three_digits(value, text):
    assert number(value) in (text, text.replace("12.35", "12.34"))


def test_what_rounds_to_zero_has_no_sign():
    assert signed(-0.0001, 1) == "0.0"
    assert signed(0.0001, 1) == "0.0"


def test_small_words():
    assert (count(1, "prompt"), count(1914, "pair")) == ("1 prompt", "1,914 pairs")
    assert (duration(96), duration(300), duration(8000)) == ("96 s", "5 min", "2.2 h")
    assert (probability(0.0001), probability(0.0312), probability(0.382)) == (
        "< 0.001",
        "0.031",
        "0.38",
    )


def test_control_and_direction_characters_cannot_hide_text():
    assert plain("a\x1b[31mred\u202etxt\x00\nb") == "a\ufffd[31mred\ufffdtxt\ufffd b"
    assert plain("👩\u200d🚀") == "👩\u200d🚀"
    assert len(plain("x" * 10_000)) == 400


def test_a_nested_record_becomes_dotted_names():
    values = {"plan": {"steps": 3, "betas": [0.9, 0.99]}, "adapter": None, "x": ()}
    assert flat(values) == {
        "plan.steps": "3",
        "plan.betas": "0.9, 0.99",
        "adapter": "none",
        "x": "none",
    }
