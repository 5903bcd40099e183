"""Going on with a run: what may change, what is refused, and what a failed start leaves."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from palate.core.problems import DataError, HealthStop, StateError, WeightsError
from palate.data.comparison import compare
from palate.data.store import Store
from palate.train import checkpoint
from palate.train.changes import changes, settled
from palate.train.export import card
from palate.train.guard import Guard
from palate.train.log import read_rows
from palate.train.loop import train
from palate.train.place import claim
from palate.train.run import Run
from palate.train.step import Learner
from train.conftest import WORDS, picture, small_run, snapshot


@pytest.fixture(scope="module")
def finished(model, data, cache, tmp_path_factory) -> Path:
    """Four steps with two checkpoints. Read only; `copied` is for writing."""
    out = tmp_path_factory.mktemp("finished") / "out"
    train(four_steps(model, data), out, cache=cache)
    return out


def four_steps(model: Path, data: Path) -> Run:
    return small_run(model, data).with_values({"plan.steps": 4, "plan.save_every": 2})


@pytest.fixture
def copied(finished, tmp_path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "out"))


def said_by(run: Run, out: Path, **more) -> list[str]:
    said: list[str] = []
    train(run, out, resume=True, on_event=lambda event: said.append(event.text), **more)
    return said


def edit(out: Path, old: str, new: str) -> Run:
    """Change run.yaml by hand, and read it as `palate resume` does."""
    text = (out / "run.yaml").read_text()
    assert old in text
    (out / "run.yaml").write_text(text.replace(old, new))
    return Run.from_yaml(out / "run.yaml")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("beta: 2000.0", "beta: 500.0", r"objective\.beta 2000\.0 to 500\.0"),
        ("seed: 3", "seed: 4", "seed 3 to 4"),
        ("batch: 4", "batch: 5", r"plan\.batch 4 to 5"),
        ("held_out: 0.2", "held_out: 0.3", r"split\.held_out"),
        ("steps: 4", "steps: 3", r"plan\.steps 4 to 3"),
    ],
)
def test_an_edited_file_of_settings_is_not_another_run(old, new, message, copied):
    run = edit(copied, old, new)
    with pytest.raises(StateError, match=message), claim(run, copied, resume=True):
        pass


def test_settings_are_compared_even_where_the_record_is_lost(copied):
    (copied / "record.json").unlink()
    run = edit(copied, "seed: 3", "seed: 4")
    with pytest.raises(StateError, match="seed 3 to 4"), claim(run, copied, resume=True):
        pass


def test_a_refused_resume_leaves_the_settings_alone(model, data, copied):
    before = (copied / "run.yaml").read_text()
    run = four_steps(model, data).with_values({"objective.beta": 500})
    with pytest.raises(StateError), claim(run, copied, resume=True):
        pass
    with claim(four_steps(model, data).with_values({"plan.micro_batch": 2}), copied, resume=True):
        assert (copied / "run.yaml").read_text() == before


def test_a_smaller_micro_batch_goes_on_and_says_it_is_not_bitwise(model, data, copied):
    run = four_steps(model, data).with_values({"plan.steps": 5, "plan.micro_batch": 2})
    said = said_by(run, copied)
    assert any("no longer bitwise" in text for text in said)
    assert "Resuming after step 4 (not bitwise: plan.micro_batch changed)." in said
    assert Run.from_yaml(copied / "run.yaml") == settled(run)
    found, _ = checkpoint.newest(copied / "checkpoints")
    assert found is not None
    assert (found.step, found.state["learner"]["pairs_at_once"]) == (5, 2)
    record = json.loads((copied / "record.json").read_text())
    assert [attempt["from_step"] for attempt in record["attempts"]] == [0, 4]
    assert record["attempts"][1]["changed"]["plan.micro_batch"] == {"from": None, "to": 2}


def test_the_advice_after_memory_ran_out_works(monkeypatch, model, data, cache, tmp_path):
    """Two whole failures of memory, then the resume that the message names."""
    plain = Learner._gradients

    def greedy(self, batch, number):
        if number == 3 and self.pairs_at_once > 1:
            raise torch.OutOfMemoryError
        return plain(self, batch, number)

    monkeypatch.setattr(Learner, "_gradients", greedy)
    run, out = four_steps(model, data), tmp_path / "out"
    with pytest.raises(HealthStop, match=r"smaller plan\.micro_batch"):
        train(run, out, cache=cache)
    smaller = Run.from_yaml(out / "run.yaml").with_values({"plan.micro_batch": 1})
    assert train(smaller, out, resume=True, cache=cache).steps == 4


def test_a_start_that_failed_does_not_take_the_folder(run, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(WeightsError):
        train(run.with_values({"model": str(tmp_path / "empty")}), tmp_path / "out")
    with claim(run, tmp_path / "out", resume=False) as place:
        assert not place.changed
    with claim(run.with_values({"seed": 9}), tmp_path / "out", resume=True) as place:
        assert not place.changed
    assert Run.from_yaml(tmp_path / "out/run.yaml").seed == 9


def test_a_finished_run_says_that_nothing_is_left_and_counts_all_its_time(model, data, copied):
    found, _ = checkpoint.newest(copied / "checkpoints")
    assert found is not None
    said: list[str] = []
    result = train(
        four_steps(model, data), copied, resume=True, on_event=lambda e: said.append(e.text)
    )
    assert "Every step is done already." in said
    assert result.seconds > found.state["seconds"] > 0


def test_folders_are_kept_by_their_whole_paths(model, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sd").mkdir()
    home = settled(Run(model="~/sd", data="~/pairs"))
    assert (home.model, home.data) == (str(tmp_path / "sd"), str(tmp_path / "pairs"))
    here = settled(Run(model="sd", data="pairs"))
    assert here == home
    assert settled(Run(model="owner/name", data="d")).model == "owner/name"
    assert settled(Run(model="shipped", data="d")).model == "shipped"


def test_a_moved_folder_is_accepted_when_its_digest_agrees(model, data, copied, tmp_path):
    moved = Path(shutil.copytree(data, tmp_path / "moved"))
    said = said_by(four_steps(model, moved).with_values({"plan.steps": 5}), copied)
    assert any(f"data is now {moved}" in text for text in said)
    assert "Resuming after step 4 (bitwise)." in said


def test_other_data_in_the_place_of_the_old_is_refused(model, copied, tmp_path):
    other = snapshot(tmp_path, pairs=20)
    with pytest.raises(StateError, match="Got data "):
        train(four_steps(model, other), copied, resume=True)


def test_the_cache_of_the_first_attempt_is_used_again(model, data, cache, copied):
    with claim(four_steps(model, data), copied, resume=True) as place:
        assert place.cache == cache
    with claim(four_steps(model, data), copied, resume=True, cache=Path("x")) as place:
        assert place.cache == Path("x").absolute()


def ties_only(folder: Path) -> Path:
    store = Store(folder / "store")
    with store.writing():
        store.add(
            compare(prompt=f"a {WORDS[i]} thing", agreement=0.5, judge="j", source="world",
                    images=[store.put(picture(2 * i, 120)), store.put(picture(2 * i + 1, 0))],
                    origin=f"test {i}")
            for i in range(6)
        )  # fmt: skip
    return store.freeze(folder / "snapshot").path


def test_data_that_cannot_be_used_is_named_before_any_weight_is_loaded(data, tmp_path):
    """The model does not exist, and is never asked for."""
    run, out = Run(model=str(tmp_path / "none"), data=str(data)), tmp_path / "out"
    with pytest.raises(DataError, match=r"Got 6 comparisons, all ties\. Need comparisons in"):
        train(run.with_values({"data": str(ties_only(tmp_path))}), out)
    one_prompt = str(snapshot(tmp_path / "two", pairs=2))
    with pytest.raises(DataError, match=r"2 pairs, all with the same prompt.*one judge too"):
        train(run.with_values({"data": one_prompt}), out)
    two_judges = str(snapshot(tmp_path / "judged", pairs=2, judges=("anna", "ben")))
    with pytest.raises(DataError, match=r"2 pairs, all with the same prompt.*split\.by=judge"):
        train(run.with_values({"data": two_judges}), out)
    with pytest.raises(DataError, match=r"40 pairs, all with the same judge.*split\.by=prompt"):
        train(run.with_values({"split.by": "judge"}), out)
    assert not out.exists()


def put(folder: Path, step: int, keep: int) -> None:
    tensors = {"w": torch.full((4, 4), float(step))}
    checkpoint.save(folder, step, tensors, tensors, {"mark": step}, keep=keep)


def spoil(folder: Path, step: int) -> None:
    path = folder / f"step-{step:06d}" / checkpoint.WEIGHTS
    path.write_bytes(path.read_bytes()[:-1] + b"?")


@pytest.mark.parametrize("keep", [1, 2])
@pytest.mark.parametrize("step", [6, 9])
def test_a_damaged_checkpoint_takes_no_place_from_a_whole_one(keep, step, tmp_path):
    """Before or beyond the new one: what was just written stays, and one before it if wished."""
    for old in (4, 8):
        put(tmp_path, old, 5)
    spoil(tmp_path, 8)
    put(tmp_path, step, keep)
    assert [s.step for s in checkpoint.states(tmp_path)] == [step] if keep == 1 else [4, step]
    found, notes = checkpoint.newest(tmp_path)
    assert found is not None
    assert (found.step, notes) == (step, [])


def test_a_listing_reads_the_checkpoint_that_would_be_used(tmp_path):
    """A changed byte is seen down to the newest whole one; before it, only what is missing."""
    for step in (1, 2, 3, 4):
        put(tmp_path, step, 9)
    for step in (2, 4):
        spoil(tmp_path, step)
    (tmp_path / "step-000001" / checkpoint.OPTIMIZER).unlink()
    found = {state.step: state.state for state in checkpoint.states(tmp_path)}
    assert found == {1: "damaged", 2: "ok", 3: "ok", 4: "damaged"}


def test_quarantine_names_each_pair_once(tmp_path):
    first = Guard(tmp_path, 0.01)
    first.set_aside(0, {"a": "not finite"})
    state = first.state()
    first.set_aside(5, {"b": "loss is not finite"})
    for _ in range(3):
        again = Guard(tmp_path, 0.01)
        again.set_aside(0, {"a": "not finite"})
        again.load_state(state)
    assert read_rows(tmp_path / "quarantine.jsonl") == [
        {"step": 0, "pair": "a", "reason": "not finite"}
    ]


def test_constant_schedules_may_be_longer_and_others_not(run):
    assert list(changes(run.with_values({"plan.steps": 9}), run)) == ["plan.steps"]
    cosine = run.with_values({"plan.schedule": "cosine"})
    with pytest.raises(StateError, match=r"plan\.steps 8 to 9"):
        changes(cosine.with_values({"plan.steps": 9}), cosine)


def test_a_card_without_beta_has_no_convention_of_it(run):
    sft = run.with_values({"objective.name": "sft"})
    record = {"run": sft.values(), "beta_convention": sft.beta_convention}
    assert "Beta" not in card(record, {})
    assert "beta/2" not in sft.to_yaml()
    assert "- Beta: logit" in card({**record, "run": run.values()}, {})
