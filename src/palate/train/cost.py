"""What a step costs, counted: a run is opened as ever, with a model that counts what it is asked.

Read next: `palate/objectives/cost.py`, where the numbers are kept and compared.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from palate.backbones import load
from palate.backbones.backbone import Backbone, Condition
from palate.data.pairs import PreferencePairs
from palate.objectives.cost import Cost
from palate.train.book import Book
from palate.train.cache import Cache
from palate.train.examples import open_book
from palate.train.groups import NoiseSettings
from palate.train.inverted import Inverted
from palate.train.labels import open_pairs
from palate.train.log import Event
from palate.train.opening import open_session
from palate.train.opponents import Opponents
from palate.train.place import claim
from palate.train.run import Run
from palate.train.selfplay import round_of
from palate.train.session import Session
from palate.train.step import Source

# Prompts of a step that is counted, where there are no pairs.
_PROMPTS = 1


@final
class Counted:
    """A backbone that counts the rows it predicts, and is the one it is given in all else.

    Attributes:
        learned: Rows predicted with gradient.
        backward: Rows a gradient came back through.
        asked: Rows predicted without gradient.
    """

    def __init__(self, backbone: Backbone) -> None:
        self._backbone = backbone
        self.learned = self.backward = self.asked = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backbone, name)

    def predict(self, noisy: Tensor, level: Tensor, condition: Condition) -> Tensor:
        """What the backbone predicts; counted."""
        answer = self._backbone.predict(noisy, level, condition)
        if not answer.requires_grad:
            self.asked += len(noisy)
            return answer
        self.learned += len(noisy)
        answer.register_hook(self._came_back)
        return answer

    def take(self) -> dict[str, int]:
        """The counts since the last time."""
        found = {"learned": self.learned, "backward": self.backward, "asked": self.asked}
        self.learned = self.backward = self.asked = 0
        return found

    def _came_back(self, gradient: Tensor) -> None:
        self.backward += len(gradient)


def count(run: Run, folder: Path) -> Cost:
    """The cost of a step of a run, counted in two steps on the same pairs.

    What only the first one does is kept by then, and told apart. Where a level of an inversion is
    drawn, it is the mean over all of them. Every judgement of a rollout counts as clear, so that
    nothing that was drawn is left out: there it is the most a step can cost.

    Args:
        run: The run, on a small model and a few pairs; its plan is put aside.
        folder: An empty folder, with no cache in it.
    """
    once = 0.0
    if run.plays:
        once, run = _round(run, folder)
    pairs = None if run.data is None else open_pairs(run)
    book = open_book(run, pairs, folder / "cache", device="cpu", tell=_silent)
    size = _PROMPTS
    if pairs is not None and run.rollout is None:
        size = len(_trained(run, pairs, book))
    changes: dict[str, Any] = {"plan.batch": size, "plan.micro_batch": None, "plan.steps": 2}
    if run.rollout is not None:
        changes |= {"rollout.threshold": 0.0, "rollout.threshold_high": None}
    run = run.with_values(changes)
    opened = load(
        run.model,
        adapter=run.build_adapter(),
        train=True,
        personal=None if book is None else book.personal,
    )
    model: Any = Counted(opened)
    side = run.pictures.resolution or model.resolution
    with claim(run, folder / "out", resume=False, cache=folder / "cache") as place:
        cache = Cache(place.cache, model, side)
        session = open_session(run, place, model, pairs, cache, _nobody, book)
        sources = _sources(session.learner.source)
        first, second = (
            [_step(session, model, source, number) for source in sources] for number in range(2)
        )
    rows = len(sources) * size
    total = {name: sum(each[name] for each in second) for name in second[0]}
    once += (sum(each["asked"] for each in first) - total["asked"]) / rows
    return Cost(**{name: many / rows for name, many in total.items()}, once=once)


def _step(session: Session, model: Counted, source: Source, number: int) -> dict[str, int]:
    """What one step asks of the model."""
    model.take()
    session.learner.source = source
    session.learner.step(session.feed.batch(number), number)
    return model.take()


def _sources(source: Source) -> list[Source]:
    """One for each level that may be drawn, where the way there is made anew each time."""
    if not isinstance(source, Inverted) or source.settings.visits != 1:
        return [source]
    return [replace(source, noise=_around(level, source.path.levels)) for level in source.grid]


def _around(level: int, levels: int) -> NoiseSettings:
    """No other level than this one."""
    return NoiseSettings(lowest=max(level - 0.5, 0) / levels, highest=(level + 0.5) / levels)


def _round(run: Run, folder: Path) -> tuple[float, Run]:
    """Draw the opponents of the first round: what that costs a pair, and the round."""
    model: Any = Counted(load(run.model))
    pairs = PreferencePairs.open(Path(str(run.data)))
    opponents = Opponents(run=run, backbone=model, pairs=pairs, folder=folder, tell=_nobody)
    with torch.no_grad():
        snapshot = opponents.freeze()
    return model.asked / len(pairs), round_of(run, 1, run.model, str(snapshot))


def _trained(run: Run, pairs: PreferencePairs, book: Book | None) -> PreferencePairs:
    """The pairs that are trained on."""
    train, _ = pairs.split(by=run.split.by, held_out=run.split.held_out, seed=run.seed)
    return train if book is None else book.trained(train)


def _nobody(_event: Event) -> None:
    """Nobody listens."""


def _silent(_text: str) -> None:
    """Nobody reads."""
