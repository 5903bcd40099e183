"""What was found of a personal model, kept and read again."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from evaluate.planted_users import following, planted
from palate.core.problems import DataError, StateError
from palate.evaluate.following import Following


@pytest.fixture(scope="module")
def found() -> Following:
    return following()


def test_everything_survives_the_way_to_disk_and_back(found: Following, tmp_path: Path) -> None:
    found.save(tmp_path / "kept")
    back = Following.load(tmp_path / "kept")
    assert back.to_json() == found.to_json()
    assert back.verdicts == found.verdicts
    assert found.slides[0].pictures is not None
    np.testing.assert_array_equal(back.slides[0].pictures, found.slides[0].pictures)


def test_the_json_is_strict_json_with_the_estimates_in_it(found: Following) -> None:
    told = json.loads(json.dumps(found.to_json(), allow_nan=False))
    one = found.verdicts["unseen"]["own_minus_shuffled"]
    assert told["verdicts"]["unseen"]["own_minus_shuffled"]["value"] == one.value
    assert told["two_way"]["seen"]["own_over_base"]["n"] == 6


def test_the_frame_has_one_row_per_judge_picture_and_whom_it_was_drawn_for() -> None:
    """Three users judge four pictures each drawn for three users, for nobody and for everybody."""
    crossed = planted(3, 4)
    rows = Following(groups={"seen": (crossed,)}).frame()
    assert len(rows) == 3 * 4 * 5
    one = next(
        row for row in rows
        if (row["judged_by"], row["drawn_for"], row["picture"]) == ("user 2", "user user 1", 3)
    )  # fmt: skip
    assert one["reward"] == crossed.personal[2, 1, 3]
    assert {row["drawn_for"] for row in rows} >= {"nobody", "everybody"}


def test_trainings_with_prompts_of_their_own_say_nothing_of_other_prompts() -> None:
    one = planted(4, 4)
    other = replace(one, prompts=("a", "b", "c", "d"))
    found = Following(groups={"seen": (one, other), "unseen": (one,)})
    assert set(found.verdicts) == {"seen", "unseen"}
    assert set(found.two_way) == {"unseen"}


def test_a_folder_that_holds_none_or_was_damaged_is_refused(
    found: Following, tmp_path: Path
) -> None:
    with pytest.raises(DataError):
        Following.load(tmp_path)
    found.save(tmp_path / "kept")
    path = tmp_path / "kept" / "following.json"
    path.write_text(path.read_text().replace("user 1", "user 9", 1))
    with pytest.raises(StateError, match="as it was written"):
        Following.load(tmp_path / "kept")
    with pytest.raises(DataError, match="cannot be read"):
        Following.from_json({"groups": []})
