"""T005: among several shares some are off one half by chance; what is surely off is named."""

import pytest

from audit.judged import asked, row, snapshot
from palate.audit.checks.t005_position_bias import PositionBias


def test_a_share_that_chance_explains_among_several_is_no_bias(tmp_path):
    """89 of 150: Wilson's 95 % interval begins at 0.513, but above chance is not above 0.52."""
    rows = [row(0, 1, float(i < 89), prompt=f"p{i}", shown=(0, 1)) for i in range(150)]
    found = asked(PositionBias(), snapshot(tmp_path, rows))
    share = found.figures["shown_first_preferred"]
    assert found.outcome == "passed"
    assert found.figures["confidence"] == pytest.approx(0.975)
    assert share["value"] == pytest.approx(89 / 150)
    assert "corrected for choosing" in found.sentence


def test_planted_a_biased_judges_rankings_lose_only_the_votes_for_the_place(tmp_path):
    """Best first in the order shown, of three pictures: all three votes are for the first."""
    rows = [
        {
            "images": [0, 1, 2], "ranks": [1, 2, 3], "shown": (0, 1, 2),
            "prompt": f"p{i}", "judge": "left", "source": "human",
        }
        for i in range(40)
    ]  # fmt: skip
    found = asked(PositionBias(), snapshot(tmp_path, rows))
    assert found.figures["biased"] == ["left"]
    assert len(found.rows) == 120
    assert {len(each.pairs) for each in found.rows} == {1}
