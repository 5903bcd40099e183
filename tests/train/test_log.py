"""What a run leaves behind and says: rows, record, card, listing, screen."""

import json
import sys

import pytest
import torch

from palate.backbones import load
from palate.core.problems import DataError, MissingExtra
from palate.train.log import Event, RowLog, open_tracker, read_rows
from palate.train.loop import train
from palate.train.runs import find_runs


@pytest.fixture(scope="module")
def finished(model, data, cache, tmp_path_factory):
    """One finished run, what it said and what it returned. Read only."""
    from train.conftest import small_run

    said: list[Event] = []
    run = small_run(model, data).with_values({"plan.log_every": 2})
    out = tmp_path_factory.mktemp("runs") / "one"
    return train(run, out, on_event=said.append, cache=cache), said


def test_a_row_a_step_and_a_check_when_due(finished):
    result, _ = finished
    assert [row["step"] for row in result.history] == [2, 4, 6, 8]
    assert [row["step"] for row in result.health] == [0, 4, 8]
    assert result.health[0]["winner_drift"] == 0.0
    assert result.health[0]["accuracy"]["value"] == 0.5
    assert result.history[-1]["pairs_seen"] == 32
    assert list(result.history) == read_rows(result.out / "log.jsonl")


def test_the_record_holds_what_a_repeat_needs(finished):
    result, _ = finished
    record = json.loads((result.out / "record.json").read_text())
    assert record["run"] == result.run.values()
    assert record["status"] == "finished"
    assert record["beta_convention"].startswith("logit = (beta/2) · margin")
    assert record["start"]["margin"] == 0.0
    assert set(record["model"]["digests"]) >= {"unet", "vae", "text_encoder", "tokenizer"}
    assert record["data"]["train"] + record["data"]["held_out"] == record["data"]["pairs"]
    assert record["cache"]["latents"]["resolution"] == 64


def test_the_card_claims_only_what_was_recorded(finished):
    result, _ = finished
    card = (result.export / "README.md").read_text()
    assert "Data licence: not recorded" in card
    assert "dpo (beta=2000.0)" in card
    assert "load_lora_weights" in card


def test_the_export_loads_back_as_the_trained_policy(finished, model):
    """The exported adapters give another answer than the base, in the trained layers' way."""
    result, _ = finished
    base, trained = load(model), load(model, weights=result.export)
    noisy, level = torch.ones(1, 4, 16, 16), torch.tensor([500])
    condition = base.embed(["a red thing"])
    with torch.no_grad():
        moved = trained.predict(noisy, level, condition) - base.predict(noisy, level, condition)
    assert 0 < float(moved.abs().max()) < 1


def test_a_listing_tells_ok_from_damaged_from_unfinished(finished):
    result, _ = finished
    folder = result.out / "checkpoints"
    (folder / ".unfinished-abc-step-000099").mkdir()
    (folder / "step-000003").mkdir()
    (state,) = find_runs(result.out.parent)
    assert (state.status, state.step, state.steps, state.objective) == ("finished", 8, 8, "dpo")
    assert state.pid is None
    assert {check.step: check.state for check in state.checkpoints} == {
        3: "damaged", 4: "ok", 8: "ok", -1: "unfinished",
    }  # fmt: skip


def test_events_tell_the_story_in_order(finished):
    _, said = finished
    kinds = [event.kind for event in said]
    assert kinds[0] == "open"
    assert kinds[-1] == "done"
    assert [k for k in kinds if k in ("start", "checkpoint")] == [
        "start",
        "checkpoint",
        "checkpoint",
    ]
    steps = [event for event in said if event.kind == "step"]
    assert [event.step for event in steps] == list(range(1, 9))
    assert steps[0].total == 8


def test_a_log_is_cut_back_to_where_a_checkpoint_stood(tmp_path):
    log = RowLog(tmp_path / "log.jsonl")
    log.write({"step": 1, "loss": float("nan")})
    kept = log.position()
    log.write({"step": 2})
    log.close()
    RowLog(tmp_path / "log.jsonl", kept).close()
    assert read_rows(tmp_path / "log.jsonl") == [{"step": 1, "loss": None}]


def test_a_line_that_was_cut_off_is_not_a_row(tmp_path):
    (tmp_path / "log.jsonl").write_text('{"step": 1}\n{"ste')
    assert read_rows(tmp_path / "log.jsonl") == [{"step": 1}]


def test_a_broken_line_in_the_middle_is_damage_and_not_an_end(tmp_path):
    (tmp_path / "log.jsonl").write_text('{"step": 1}\n{"ste\n{"step": 3}\n')
    with pytest.raises(DataError, match=r"line 2.*one JSON object per line"):
        read_rows(tmp_path / "log.jsonl")


def test_tensorboard_is_insisted_on_only_when_asked(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard.writer", None)
    open_tracker("auto", tmp_path, 0).write({"step": 1}, "train")
    with pytest.raises(MissingExtra, match=r'pip install "palate\[tracking\]"'):
        open_tracker("on", tmp_path, 0)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_files_are_written(run, cache, tmp_path):
    pytest.importorskip("tensorboard")
    train(run.with_values({"plan.tensorboard": "on"}), tmp_path / "out", cache=cache)
    assert list((tmp_path / "out/tensorboard").glob("events*"))
