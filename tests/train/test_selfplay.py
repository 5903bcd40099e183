"""Self-play: rounds of ordinary runs, each against pictures of the model of the round before."""

import json
import math
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from torch import Tensor

from palate.backbones import load, model_digests
from palate.backbones.steps import Grid, transition
from palate.core.files import digest_file
from palate.core.problems import SettingError, StateError
from palate.core.streams import Streams
from palate.data.comparison import compare
from palate.data.pairs import PreferencePairs
from palate.data.store import Store
from palate.objectives import OBJECTIVES
from palate.train import opponents
from palate.train.denoise import denoise
from palate.train.duel import Duel, Duelled
from palate.train.log import Event, read_rows
from palate.train.loop import Interrupted, train
from palate.train.noise import Noised
from palate.train.opponents import Opponents
from palate.train.run import Run
from palate.train.runs import read_run
from palate.train.sources import SelfPlaySettings
from train.conftest import small_run, snapshot
from train.micro import Micro
from train.micro import batch as pairs_of
from train.test_resume import CutError, same_run, stop_after, timeless


def playing(model: Path, data: Path, **more: object) -> Run:
    """Two short rounds with a sampler of two steps."""
    ordinary = small_run(model, data).values()
    ordinary["plan"] |= {"steps": 2, "save_every": 1, "health_every": 2, "keep_last": 100}
    return Run.from_values(
        {
            **{name: value for name, value in ordinary.items() if name != "selfplay"},
            "objective": {"name": "spin", "beta": 500.0},
            "selfplay": {
                "iterations": 2, "sampling_steps": 2, "guidance": 2.0, "steps": [2, 3],
                "learning_rates": [1e-3, 5e-4], "betas": [500.0, 900.0], **more,
            },
        }
    )  # fmt: skip


@pytest.fixture(scope="module")
def straight(model: Path, data: Path, cache: Path, tmp_path_factory) -> Path:
    """A self-play of two rounds that nothing interrupted. Read only."""
    out = tmp_path_factory.mktemp("game") / "out"
    train(playing(model, data), out, cache=cache)
    return out


def blank_losers(data: Path, folder: Path) -> Path:
    """The same winners for the same prompts; everything they won against is one grey picture."""
    pairs, store = PreferencePairs.open(data), Store(folder / "store")
    grey = store.put(np.full((8, 8, 3), 128, np.uint8))
    with store.writing():
        store.add(
            compare(prompt=p.prompt, images=[store.put(pairs.image(p.chosen)), grey],
                    agreement=1.0, judge="anybody", source="world", origin="test")
            for p in pairs
        )  # fmt: skip
    return store.freeze(folder / "snapshot").path


def weights(folder: Path) -> dict[str, str]:
    """Digests of the weights in a folder."""
    return {p.relative_to(folder).as_posix(): digest_file(p) for p in folder.rglob("*.safetensors")}


def test_every_round_starts_from_the_model_that_the_round_before_made(straight: Path) -> None:
    rounds = [Run.from_yaml(straight / f"rounds/{n}/run/run.yaml") for n in (1, 2)]
    assert rounds[1].model == str(straight / "rounds/1/model")
    assert [run.plan.steps for run in rounds] == [2, 3]
    assert [run.plan.learning_rate for run in rounds] == [1e-3, 5e-4]
    assert [run.objective.settings["beta"] for run in rounds] == [500.0, 900.0]
    facts = json.loads((straight / "record.json").read_text())
    assert [each["round"] for each in facts["rounds"]] == [1, 2]
    digests = [each["model"]["digests"]["unet"] for each in facts["rounds"]]
    assert digests[0] == facts["model"]["digests"]["unet"] != digests[1]
    # At the start of a round the model is its own opponent, whatever came before.
    for number in (1, 2):
        first = read_rows(straight / f"rounds/{number}/run/log.jsonl")[0]
        assert first["margin"] == 0
        assert abs(first["loss"] - math.log(2)) < 1e-6


def test_the_whole_is_one_run_to_whoever_looks_at_it(straight: Path) -> None:
    rows = read_rows(straight / "log.jsonl")
    assert [(row["step"], row["round"]) for row in rows] == [(1, 1), (2, 1), (3, 2), (4, 2), (5, 2)]
    state = read_run(straight)
    assert (state.status, state.step, state.steps) == ("finished", 5, 5)
    assert len(state.checkpoints) == 5


def test_what_several_rounds_made_is_a_pipeline_that_plain_diffusers_loads(
    straight: Path, model: Path
) -> None:
    plain = DiffusionPipeline.from_pretrained(straight / "export", safety_checker=None)
    theirs = load(straight / "rounds/1/model", weights=straight / "rounds/2/run/export")
    noisy = Streams(0)("asked").normal((2, *theirs.latent_shape(32, 32)))
    level, told = torch.tensor([20, 700]), theirs.embed(["a red thing", "a new thing"])
    with torch.no_grad():
        said = plain.unet(noisy, level, encoder_hidden_states=told.tensors["text"]).sample
        start = load(model).predict(noisy, level, told)
        gap = (said - theirs.predict(noisy, level, told)).abs().max()
    assert gap < 1e-5 < 1e-3 < (said - start).abs().max()


def test_no_losing_picture_is_needed(
    straight: Path, model: Path, data: Path, cache: Path, tmp_path: Path
) -> None:
    """Blank losers lead to the same bits, because nobody looks at them."""
    blank = blank_losers(data, tmp_path)
    train(playing(model, blank), tmp_path / "out", cache=cache)
    assert weights(tmp_path / "out" / "export") == weights(straight / "export")


def test_stopped_while_drawing_and_while_training_it_ends_in_the_same_bits(
    straight: Path, model: Path, data: Path, cache: Path, tmp_path: Path
) -> None:
    run, out = playing(model, data), tmp_path / "out"

    def terminate(event: Event) -> None:
        if event.kind == "cache" and "to draw" in event.text:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted, match=f"palate resume {out}"):
        train(run, out, on_event=terminate, cache=cache)
    assert read_run(out).status == "interrupted"
    store = Store(next(out.glob("rounds/1/opponents-*/store")))
    assert len(store.ids()) == 32
    for step in (1, 4):
        with pytest.raises(CutError):
            train(run, out, resume=True, on_event=stop_after(step), cache=cache)
    heard: list[str] = []
    train(run, out, resume=True, on_event=lambda e: heard.append(e.text), cache=cache)
    assert not any(text.startswith("Round 1") for text in heard)
    for number in (1, 2):
        same_run(out / f"rounds/{number}/run", straight / f"rounds/{number}/run")
    assert timeless(out / "log.jsonl") == timeless(straight / "log.jsonl")
    assert weights(out / "export") == weights(straight / "export")


def test_opponents_lie_in_a_folder_named_after_the_model_that_drew_them(
    straight: Path, model: Path, data: Path
) -> None:
    run, pairs = playing(model, data), PreferencePairs.open(data)
    names: list[str] = []
    for number, drawer in ((1, model), (2, straight / "rounds/1/model")):
        folder = straight / f"rounds/{number}"
        them = Opponents(
            run=run, backbone=load(drawer), pairs=pairs, folder=folder, tell=lambda _event: None
        )
        assert [them.place] == list(folder.glob("opponents-*"))
        names.append(them.place.name)
        rows = list(Store(them.place / "store").rows())
        assert len(rows) == len(pairs)
        assert {row.judge for row in rows} == {f"spin {them.key[:12]}"}
        assert rows[0].generation[1]["model"]["unet"] == load(drawer).digests["unet"]
    assert names[0] != names[1]


def test_a_winner_that_the_model_draws_to_the_pixel_is_not_drawn_again(
    model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first of each of the two blocks comes out as the data has it; the others are grey."""
    pairs, blocks = PreferencePairs.open(data), list[int]()
    winners = sorted({(pair.prompt, pair.chosen) for pair in pairs})

    def sample(_backbone: object, prompts: list[str], *_rest: object, **_more: object) -> Tensor:
        first = pairs.image(winners[sum(blocks)][1])
        drawn = np.full((len(prompts), *first.shape), 128, np.uint8)
        drawn[0] = first
        blocks.append(len(prompts))
        return torch.from_numpy(drawn)

    monkeypatch.setattr(opponents, "sample", sample)
    them = Opponents(
        run=playing(model, data), backbone=load(model), pairs=pairs, folder=tmp_path,
        tell=lambda _event: None,
    )  # fmt: skip
    snapshot = them.freeze()
    assert blocks == [32, 8]
    assert len(PreferencePairs.open(snapshot)) == 38
    snapshot.rename(tmp_path / "lost")
    again = them.freeze()
    assert blocks == [32, 8]
    assert PreferencePairs.open(again).digest == PreferencePairs.open(tmp_path / "lost").digest


def test_steps_are_counted_also_where_not_all_are_logged(
    model: Path, cache: Path, tmp_path: Path
) -> None:
    run = playing(model, snapshot(tmp_path, 12), steps=[3, 2]).with_values({"plan.log_every": 2})
    heard: list[tuple[int, int]] = []

    def hear(event: Event) -> None:
        heard.extend([(event.step, event.total)] if event.kind == "step" else [])

    result = train(run, tmp_path / "out", cache=cache, on_event=hear)
    rows = read_rows(tmp_path / "out/log.jsonl")
    assert [(row["step"], row["round"]) for row in rows] == [(2, 1), (5, 2)]
    assert heard == [(step, 5) for step in range(1, 6)]
    assert result.steps == 5
    assert json.loads((tmp_path / "out/record.json").read_text())["steps"] == 5


def test_a_models_digests_are_known_without_opening_it(model: Path) -> None:
    assert model_digests(model) == load(model).digests


@pytest.mark.slow
def test_one_round_leaves_a_lora_and_all_weights_leave_a_pipeline(
    model: Path, data: Path, cache: Path, tmp_path: Path
) -> None:
    once = {"iterations": 1, "steps": [1], "learning_rates": [1e-3], "betas": None}
    train(playing(model, data, **once), tmp_path / "lora", cache=cache)
    assert list(weights(tmp_path / "lora/export")) == ["pytorch_lora_weights.safetensors"]
    inner = weights(tmp_path / "lora/rounds/1/run/export")
    assert weights(tmp_path / "lora/export") == inner
    full = {"steps": [1, 1], "learning_rates": [1e-3, 1e-3]}
    run = playing(model, data, **full).with_values({"adapter": None})
    train(run, tmp_path / "full", cache=cache)
    second = Run.from_yaml(tmp_path / "full/rounds/2/run/run.yaml")
    assert second.model == str(tmp_path / "full/rounds/1/run/export")
    assert weights(tmp_path / "full/export") == weights(tmp_path / "full/rounds/2/run/export")


def test_other_data_or_more_steps_are_refused_when_going_on(
    model: Path, data: Path, cache: Path, tmp_path: Path
) -> None:
    run, out = playing(model, data), tmp_path / "out"
    with pytest.raises(CutError):
        train(run, out, on_event=stop_after(1), cache=cache)
    with pytest.raises(StateError, match=r"plan\.steps"):
        train(run.with_values({"plan.steps": 9}), out, resume=True, cache=cache)
    with pytest.raises(StateError, match="already holds a run"):
        train(run, out, cache=cache)
    other = snapshot(tmp_path / "other", 12)
    with pytest.raises(StateError, match="data"):
        train(run.with_values({"data": str(other)}), out, resume=True, cache=cache)


def test_settings_that_fit_no_round_are_refused_before_the_first(
    model: Path, data: Path, tmp_path: Path
) -> None:
    run = playing(model, data).with_values({"plan.steps": 9, "plan.warmup_steps": 3})
    with pytest.raises(SettingError, match=r"plan\.warmup_steps=3 with plan\.steps=2"):
        train(run, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(SettingError, match=r"split\.by=judge"):
        run.with_values({"split.by": "judge"})
    with pytest.raises(SettingError, match="one for each of the 2 rounds"):
        playing(model, data, betas=[1.0])


def duel(backbone: Micro, guidance: float = 1.0) -> Duel:
    """The exact form on the micro model's fifty levels, five of which its sampler visits."""
    grid = Grid.leading(backbone.path.levels, 5)
    return Duel(
        streams=Streams(4),
        backbone=backbone,
        settings=SelfPlaySettings(guidance=guidance, opponent="trajectory"),
        grid=grid,
        levels=grid.levels,
        shared=True,
        empty=pairs_of(6).conditions[0].rows([0]) if guidance > 1 else None,
    )


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_the_opponent_is_met_where_its_sampler_passes(guidance: float) -> None:
    backbone, pairs = Micro().move(0.05), pairs_of(6)
    source = duel(backbone, guidance)
    question = source(pairs)
    assert len(set(question.level.tolist())) > 2
    for row in range(6):
        told, empty = pairs.conditions[1].rows([row]), pairs_of(6).conditions[0].rows([0])
        state = source.streams("duel", pairs.visits[row], pairs.ids[row]).normal((2, 8, 8))
        state = state[None].to(torch.float64)
        for above, below in zip(source.grid.levels, source.grid.previous, strict=True):
            if above <= int(question.level[row]):
                break
            at, to = torch.tensor([above]), torch.tensor([below])
            with backbone.as_reference():
                given = backbone.predict(state, at, told)
                without = backbone.predict(state, at, empty)
            said = without + guidance * (given - without)
            state = transition(backbone.path, state, said, at, to, eta=0.0).mean
        assert torch.allclose(question.noised.noisy[1][row], state[0], atol=1e-10)


def gradient(question: Duelled | Noised, side: int) -> Tensor:
    """How the error on one side pulls at the weights, at the start."""
    backbone = Micro()
    answers = question.ask(backbone, 2)
    with torch.no_grad(), backbone.as_reference():
        believed = question.ask(backbone, 2)
    question.branches(answers, believed)[side].error.sum().backward()
    pulls = [p.grad.flatten() for p in backbone.trainable().values() if p.grad is not None]
    return torch.cat(pulls)


def test_in_the_exact_form_only_the_data_teaches_at_the_start() -> None:
    """The opponent's own answer is the target on its side: no error there, and no gradient."""
    question = duel(Micro())(pairs_of(6))
    assert gradient(question, 1).abs().max() == 0
    assert gradient(question, 0).norm() > 0
    # Noised like any other picture, the opponent teaches from the first step on.
    assert gradient(question.noised, 1).norm() > 0


def test_the_exact_form_starts_at_a_fair_coin_and_keeps_the_opponents_error_at_zero() -> None:
    backbone, pairs, needs = Micro(), pairs_of(6), OBJECTIVES["spin"].needs
    objective = OBJECTIVES["spin"](beta=2000.0)
    start = denoise(backbone, pairs, duel(backbone)(pairs), needs)
    assert torch.allclose(
        objective(start).loss, torch.full((6,), math.log(2), dtype=start.margin.dtype)
    )
    backbone.move(0.05)
    later = denoise(backbone, pairs, duel(backbone)(pairs), needs)
    rejected = later.rejected
    assert rejected is not None
    assert (rejected.gain == -rejected.error).all()
    assert (rejected.error > 0).all()


@pytest.mark.slow
def test_both_forms_train_and_the_exact_one_can_be_resumed(
    model: Path, data: Path, cache: Path, tmp_path: Path
) -> None:
    run = playing(model, data, opponent="trajectory", iterations=1, steps=[3],
                  learning_rates=[1e-3], betas=[500.0])  # fmt: skip
    train(run, tmp_path / "straight", cache=cache)
    with pytest.raises(CutError):
        train(run, tmp_path / "cut", on_event=stop_after(2), cache=cache)
    train(run, tmp_path / "cut", resume=True, cache=cache)
    same_run(tmp_path / "cut/rounds/1/run", tmp_path / "straight/rounds/1/run")
    plain = run.with_values({"selfplay.opponent": "renoised"})
    train(plain, tmp_path / "plain", cache=cache)
    assert weights(tmp_path / "plain/export") != weights(tmp_path / "straight/export")
