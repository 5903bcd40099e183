"""What an objective thinks worth keeping of each pair is written down, and cut back on resuming."""

import math

import pytest

from palate.train.log import read_rows
from palate.train.loop import train
from train.test_resume import CutError


def test_minority_scores_are_kept_pair_by_pair_and_cut_back_on_resuming(run, cache, tmp_path):
    """Broken off after step 3, saved after step 2: rows of step 3 are there, and made again."""
    chosen = run.with_values(
        {"objective.name": "adaptive-dpo", "objective.warm_up": 1, "plan.steps": 4,
         "plan.save_every": 2, "plan.health_every": 100,
         "health.draws": 1, "health.pairs": 2}
    )  # fmt: skip
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train(chosen, whole, cache=cache)

    def listen(event):
        if event.kind == "step" and event.step == 3:
            raise CutError

    with pytest.raises(CutError):
        train(chosen, broken, cache=cache, on_event=listen)
    assert {row["step"] for row in read_rows(broken / "pairs.jsonl")} == {1, 2, 3}
    train(chosen, broken, cache=cache, resume=True)
    expected = read_rows(whole / "pairs.jsonl")
    assert read_rows(broken / "pairs.jsonl") == expected
    assert [row["step"] for row in expected] == [step for step in (1, 2, 3, 4) for _ in range(4)]
    assert set(expected[0]) == {"step", "pair", "minority"}
    assert all(row["minority"] == 0 for row in expected if row["step"] == 1)
    assert all(0 <= row["minority"] <= 1 for row in expected)
    assert any(row["minority"] > 0 for row in expected)
    assert all(math.isfinite(row["minority"]) for row in expected)


def test_an_objective_with_nothing_to_keep_writes_no_such_file(run, cache, tmp_path):
    train(run.with_values({"plan.steps": 1}), tmp_path / "run", cache=cache)
    assert not (tmp_path / "run" / "pairs.jsonl").exists()
