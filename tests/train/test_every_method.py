"""What holds for every method: it trains, stops and goes on, splits its step, and survives NaN."""

import dataclasses
import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from palate.backbones import load
from palate.core.streams import Streams
from palate.objectives import OBJECTIVES, Objective
from palate.objectives.cost import cost_of
from palate.train.batch import Batch
from palate.train.cache import Cache
from palate.train.cost import count
from palate.train.examples import open_book
from palate.train.labels import open_pairs
from palate.train.log import Event
from palate.train.loop import train
from palate.train.opening import open_session
from palate.train.place import claim
from palate.train.rollout import RolloutFeed
from palate.train.run import Run
from palate.train.session import Session
from train.methods import data_for, firsts, groups, run_of, smaller
from train.test_resume import CutError, same_run, stop_after

METHODS = list(OBJECTIVES)
FIRSTS = firsts()
LONG = (pytest.mark.slow, pytest.mark.timeout(900))
# One method of each kind is quick; the others go the same ways through the trainer.
each_method = pytest.mark.parametrize(
    "objective",
    [
        pytest.param(each, id=each.name, marks=() if each.name in FIRSTS else LONG)
        for each in METHODS
    ],
)
AT_ONCE = {"plan.batch": 4, "plan.steps": 3, "plan.save_every": 1, "plan.health_every": 2}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[type[Objective]], Path | None]:
    """The snapshot that a method reads, made once for all methods that read the same."""
    made: dict[tuple[object, ...] | None, Path | None] = {}

    def of(objective: type[Objective]) -> Path | None:
        needs = objective.needs
        key = None if needs.scorer else (needs.users, *needs.facts[:1])
        if key not in made:
            made[key] = data_for(objective, tmp_path_factory.mktemp("data"))
        return made[key]

    return of


def small(objective: type[Objective], model: Path, data: Path | None, **more: Any) -> Run:
    """Three small steps of a method; of two prompts where it draws."""
    drawn = {"plan.batch": 2} if objective.needs.scorer else {}
    return run_of(objective, model, data, **{**AT_ONCE, **drawn, **smaller(objective), **more})


def trained(out: Path) -> Path:
    """The folder in which steps were taken: of a self-play, that of its only round."""
    round_one = out / "rounds/1/run"
    return round_one if round_one.is_dir() else out


@each_method
def test_it_trains_is_looked_after_and_goes_on_where_it_was_cut_off(
    objective, model, folders, cache, tmp_path
):
    """Same bits in checkpoints, logs, health and export; what was cached is read again."""
    run = small(objective, model, folders(objective))
    result = train(run, tmp_path / "straight", cache=cache)
    assert (trained(tmp_path / "straight") == tmp_path / "straight") != run.plays
    assert [row["step"] for row in result.history] == [1, 2, 3]
    assert all(math.isfinite(row["loss"]) for row in result.history)
    assert all(row["gradient_norm"] > 0 for row in result.history)
    assert [row["step"] for row in result.health] == [0, 2, 3]
    assert all(row["sentence"] for row in result.health)
    assert all(math.isfinite(row["winner_drift"]) for row in result.health)
    heard: list[str] = []

    def listen(event: Event) -> None:
        heard.append(event.text.removeprefix("Round 1 of 1: "))
        stop_after(2)(event)

    with pytest.raises(CutError):
        train(run, tmp_path / "cut", on_event=listen, cache=cache)
    rows = [text for text in heard if text.startswith(("latents: ", "prompts: "))]
    assert rows
    assert not any("rebuilt" in text for text in rows)
    train(run, tmp_path / "cut", resume=True, cache=cache)
    same_run(trained(tmp_path / "cut"), trained(tmp_path / "straight"))
    record = json.loads((trained(tmp_path / "cut") / "record.json").read_text())
    assert record["status"] == "finished"


@contextmanager
def opened(run: Run, folder: Path, cache: Path) -> Iterator[Session]:
    """The session of a run, as `train` opens it, with a policy away from the reference."""
    if run.plays:
        # A round is opened like any other run; whose pictures it reads makes no difference here.
        run = run.with_values({"selfplay.round": 1})
    pairs = None if run.data is None else open_pairs(run)
    with claim(run, folder / "out", resume=False, cache=cache) as place:
        book = open_book(run, pairs, place.cache, device="cpu", tell=lambda _text: None)
        backbone = load(
            run.model,
            adapter=run.build_adapter(),
            train=True,
            personal=None if book is None else book.personal,
        )
        _widen(backbone)
        kept = Cache(place.cache, backbone, backbone.resolution)
        session = open_session(run, place, backbone, pairs, kept, lambda _event: None, book)
        with torch.no_grad():
            for name, weight in backbone.trainable().items():
                weight += 0.05 * Streams(1)("move", name).normal(tuple(weight.shape))
        yield session


def _widen(backbone: Any) -> None:
    """Compute in float64: what is left of rounding then is that of answers and errors."""
    network = backbone._denoiser.network.double()

    def cast(_network: Any, told: tuple[Any, ...], named: dict[str, Any]) -> Any:
        def wide(value: Any) -> Any:
            return value.double() if getattr(value, "dtype", None) is torch.float32 else value

        return tuple(map(wide, told)), {name: wide(value) for name, value in named.items()}

    network.register_forward_pre_hook(cast, with_kwargs=True)


def gradient(session: Session, rows: Any, at_once: int) -> tuple[torch.Tensor, dict[str, Any]]:
    """The gradient of the fifth step, and what was measured on the way."""
    learner = session.learner
    learner.pairs_at_once = at_once
    measures = learner._gradients(rows, 4)
    found = [weight.grad for weight in learner.backbone.trainable().values()]
    return torch.cat([g.flatten().double() for g in found if g is not None]), measures


def spoil_scores(feed: RolloutFeed, prompt: str) -> None:
    """From now on the scorer has no number for one prompt."""
    judge = feed._judge

    class Spoilt:
        name, identity, reads = judge.scorer.name, judge.scorer.identity, judge.scorer.reads

        def score_steps(self, seen: Any, prompts: Any, level: Any) -> np.ndarray:
            scores = np.asarray(judge.scorer.score_steps(seen, prompts, level))
            return np.where([text == prompt for text in prompts], np.nan, scores)

    feed._judge = dataclasses.replace(judge, scorer=Spoilt())


def spoilt(session: Session, number: int) -> tuple[Any, set[str]]:
    """A batch with something in it that is not finite, and the names that have it."""
    feed = session.feed
    if isinstance(feed, RolloutFeed):
        texts = [feed._prompts[i] for i in feed._order.indices(number)]
        visits = feed._order.visits(number)
        spoil_scores(feed, texts[0])
        return feed.batch(number), {f"{visits[0]}:{texts[0]}"}
    rows = feed.batch(number)
    assert isinstance(rows, Batch)
    chosen = rows.chosen.clone()
    chosen[1, 0, 0, 0] = math.nan
    return dataclasses.replace(rows, chosen=chosen), {rows.ids[1]}


@each_method
def test_splitting_its_step_changes_nothing_and_what_is_not_finite_is_set_aside(
    objective, model, folders, cache, tmp_path
):
    """The same to 1e-6, in each pair's loss and in the gradient."""
    with opened(small(objective, model, folders(objective)), tmp_path, cache) as session:
        rows = session.feed.batch(0)
        whole, together = gradient(session, rows, len(rows))
        split, apart = gradient(session, rows, 3)
        assert whole.norm() > 0
        assert float((whole - split).norm() / whole.norm()) < 1e-6
        torch.testing.assert_close(apart["loss"], together["loss"], rtol=1e-6, atol=1e-6)
        batch, broken = spoilt(session, 1)
        outcome = session.learner.step(batch, 1)
        assert set(outcome.culprits) == broken
        assert outcome.skipped is None
        assert not broken & {name.partition(" step ")[0] for name in outcome.ids}
        weights = session.learner.backbone.trainable().values()
        assert all(bool(torch.isfinite(weight).all()) for weight in weights)


@pytest.mark.parametrize(
    "objective",
    [
        pytest.param(
            each,
            id=each.name,
            marks=LONG if groups(each) or each.name not in FIRSTS else (),
        )
        for each in METHODS
    ],
)
def test_the_cost_in_the_table_is_what_a_step_costs(objective, model, tmp_path):
    """Counted again, with the method's settings as they come."""
    data = data_for(objective, tmp_path, pairs=4)
    assert count(run_of(objective, model, data), tmp_path) == cost_of(objective)
