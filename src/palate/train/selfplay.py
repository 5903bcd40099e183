"""Self-play: in every round the model learns to beat pictures of the model it was before.

A round draws the opponents with the model of the round before, then trains on them like any
other run, starting from that model and with it as the reference. What it trained is folded in,
and the next round begins. Each round is a folder with an ordinary run in it, so everything that
holds for runs holds for rounds; this file only plays them in turn, and goes on where the last
attempt stopped.

Read next: `opponents.py`, whose pictures the data is put against; `duel.py`, the exact form.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, final

from palate.backbones import Mixture, load, model_digests
from palate.core.files import damage, read_json, write_atomic
from palate.core.problems import DataError, HealthStop, StateError, require
from palate.data.pairs import PreferencePairs
from palate.train.device import choose_device
from palate.train.ending import Result
from palate.train.export import begin_record, export, write_record
from palate.train.log import Event, read_rows
from palate.train.opening import check_pairs
from palate.train.opponents import Opponents
from palate.train.place import EXPORT, HEALTH, LOG, PAIRS, RECORD, ROUNDS, Place, as_event, claim
from palate.train.run import Run
from palate.train.session import Tell
from palate.train.signals import Interrupted

# The folders of a round: its training, and the whole model that came out of it.
TRAINING, MODEL = "run", "model"


class Train(Protocol):
    """`palate.train.loop.train`, which plays no part in deciding when to play."""

    def __call__(
        self,
        run: Run,
        out: Path,
        *,
        resume: bool,
        on_event: Callable[[Event], None] | None,
        cache: Path | None,
    ) -> Result:
        """Train one round."""
        ...


def play(
    run: Run, out: Path, *, resume: bool, tell: Tell, cache: Path | None, train: Train
) -> Result:
    """Play every round that is not played yet.

    Raises:
        SettingError, DataError, WeightsError: before anything was drawn or trained.
        StateError: when the folder is taken, or its model or data are not those it began with.
        HealthStop: when a guard stopped a round.
        Interrupted: after SIGTERM or SIGINT; the run can be resumed.
    """
    pairs = PreferencePairs.open(Path(str(run.data)))
    # A round has the prompts of the data, so what cannot be held out there cannot be later.
    check_pairs(run, pairs)
    for number in range(1, run.rounds + 1):
        # Settings that fit no round are refused before the first one.
        round_of(run, number, run.model, str(run.data))
    with claim(run, out, resume=resume, cache=cache) as place:
        if (changed := as_event(place)) is not None:
            tell(changed)
        game = Game(run=run, place=place, pairs=pairs, tell=tell, train=train)
        begin_record(place, run, game.facts(), game.steps_before(run.rounds + 1))
        try:
            return game.play()
        except (HealthStop, Interrupted) as stop:
            game.leave("stopped" if isinstance(stop, HealthStop) else "interrupted", str(stop))
            raise type(stop)(
                got=stop.got, need=stop.need, fix=f"Go on with: palate resume {out}"
            ) from stop


def round_of(run: Run, number: int, model: str, data: str) -> Run:
    """The ordinary run that is one round, counted from 1.

    Raises:
        SettingError: when the settings of this round do not fit each other.
    """
    settings = run.selfplay
    steps = None if settings is None else settings.steps
    rates = None if settings is None else settings.learning_rates
    betas = None if settings is None else settings.betas
    place = number - 1
    values: dict[str, Any] = {"model": model, "data": data, "selfplay.round": number}
    values |= {} if steps is None else {"plan.steps": steps[place]}
    values |= {} if rates is None else {"plan.learning_rate": rates[place]}
    values |= {} if betas is None else {"objective.beta": betas[place]}
    return run.with_values(values)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Game:
    """A self-play under way.

    Attributes:
        run: Its settings.
        place: Its folder.
        pairs: The data.
        tell: Hears events.
        train: Trains one round.
    """

    run: Run
    place: Place
    pairs: PreferencePairs
    tell: Tell
    train: Train

    def play(self) -> Result:
        """Every round in turn; then what diffusers loads."""
        start = model = self.run.model
        for number in range(1, self.run.rounds + 1):
            start, model = model, self._round(number, model)
            self._gather()
        return self._finish(start)

    def facts(self) -> dict[str, Any]:
        """What is known before the first round.

        Raises:
            StateError: when model or data are not those the run was started with.
        """
        train, held_out = self.pairs.split(
            by=self.run.split.by, held_out=self.run.split.held_out, seed=self.run.seed
        )
        digests = dict(model_digests(self.run.model))
        mine = {"data": self.pairs.digest, **{f"model {k}": v for k, v in digests.items()}}
        for name, value in self.place.identity.items():
            require(
                mine.get(name) == value,
                got=f"{name} {str(mine.get(name))[:16]}",
                need=f"{value[:16]}, as when the run was started",
                fix="Put the same model and data back, or start a new run.",
                kind=StateError,
            )
        return {
            "model": {"name": self.run.model, "digests": digests},
            "data": {
                "digest": self.pairs.digest,
                "pairs": len(self.pairs),
                "train": len(train),
                "held_out": len(held_out),
                "summary": self.pairs.summary(),
            },
            "cache": {"folder": str(self.place.cache)},
            "rounds": self.place.record.get("rounds", []),
        }

    def steps_before(self, number: int) -> int:
        """Steps taken in the rounds before this one, as far as it is known."""
        return sum(self._steps(each) for each in range(1, number))

    def leave(self, status: str, sentence: str) -> None:
        """Write down why the game ended early."""
        self._gather()
        write_record(
            self.place.out, self.run, {**self._ending(), "status": status, "sentence": sentence}
        )

    def _round(self, number: int, model: str) -> str:
        """Play one round, unless it is over; returns the model that came out of it."""
        folder, record = self.place.out / ROUNDS / str(number), self._record(number)
        if record.get("status") != "finished":
            self._play(number, model)
        if self.run.adapter is None:
            return str(folder / TRAINING / EXPORT)
        whole = folder / MODEL
        if number < self.run.rounds and (not whole.exists() or damage(whole) is not None):
            trained = Mixture.whole(folder / TRAINING / EXPORT)
            load(model, weights=trained).export(whole)
        return str(whole)

    def _play(self, number: int, model: str) -> None:
        """Draw the opponents and train against them."""
        folder, run = self.place.out / ROUNDS / str(number), self.run
        before, total, tell = self.steps_before(number), run.planned_steps, self.tell

        def hear(event: Event) -> None:
            text = f"Round {number} of {run.rounds}: {event.text}"
            tell(replace(event, text=text, step=before + event.step, total=total))

        backbone = load(model, device=choose_device(run), precision=run.plan.precision)
        opponents = Opponents(
            run=run, backbone=backbone, pairs=self.pairs, folder=folder, tell=hear
        )
        snapshot = opponents.freeze()
        # The picture drawer has done its work; training opens the model anew, as it is trained.
        del backbone, opponents
        training = self._training(number)
        self.train(
            round_of(run, number, model, str(snapshot)),
            training,
            resume=True,
            on_event=hear,
            cache=self.place.cache,
        )

    def _finish(self, start: str) -> Result:
        """Write the record and the model of the last round; `start` is the one it began with."""
        run, out, last = self.run, self.place.out, self._record(self.run.rounds)
        facts = {**self._ending(), "status": "finished", "sentence": last.get("sentence")}
        record = write_record(out, run, facts)
        trained = self._training(run.rounds) / EXPORT
        # A LoRA is for the model it was trained from; after several rounds that is not the base.
        alone = run.rounds == 1 or run.adapter is None
        backbone = load(start, weights=trained if alone else Mixture.whole(trained))
        folder = export(out, backbone, record)
        steps = int(record["steps"])
        self.tell(Event(kind="done", text=f"Done after {run.rounds} rounds.", step=steps,
                        total=run.planned_steps))  # fmt: skip
        return Result(
            run=run,
            out=out,
            steps=steps,
            seconds=float(record["seconds"]),
            history=tuple(read_rows(out / LOG)),
            health=tuple(read_rows(out / HEALTH)),
            status=str(last.get("health_status")),
            sentence=str(last.get("sentence")),
            export=folder,
        )

    def _ending(self) -> dict[str, Any]:
        """What is known of the rounds so far, and of the last of them."""
        played = [(n, r) for n in range(1, self.run.rounds + 1) if (r := self._record(n))]
        last = played[-1][1] if played else {}
        return {
            "rounds": [_facts(number, record) for number, record in played],
            "steps": self.steps_before(self.run.rounds + 1),
            "seconds": round(sum(float(r.get("seconds", 0)) for _, r in played), 2),
            "pairs_seen": sum(int(r.get("pairs_seen", 0)) for _, r in played),
            "health_status": last.get("health_status"),
            "last_check": last.get("last_check"),
        }

    def _gather(self) -> None:
        """The logs of all rounds as one, with steps that go on counting and the round's number."""
        for name in (LOG, HEALTH, PAIRS):
            lines = [json.dumps(row) + "\n" for row in self._rows(name)]
            if lines:
                write_atomic(self.place.out / name, "".join(lines))

    def _rows(self, name: str) -> Iterator[dict[str, Any]]:
        for number in range(1, self.run.rounds + 1):
            before = self.steps_before(number)
            for row in read_rows(self._training(number) / name):
                yield {**row, "step": before + int(row["step"]), "round": number}

    def _steps(self, number: int) -> int:
        """Steps of a round: of one that was left, as many as its logs tell of."""
        record = self._record(number)
        if record.get("status") == "finished":
            return int(record["steps"])
        # Not every step is logged, so there may have been more.
        logs = [read_rows(self._training(number) / name) for name in (LOG, HEALTH)]
        return max((int(rows[-1]["step"]) for rows in logs if rows), default=0)

    def _record(self, number: int) -> Mapping[str, Any]:
        with suppress(DataError):
            return read_json(self._training(number) / RECORD)
        return {}

    def _training(self, number: int) -> Path:
        return self.place.out / ROUNDS / str(number) / TRAINING


def _facts(number: int, record: Mapping[str, Any]) -> dict[str, Any]:
    """One round in the record of the whole."""
    run, data = record["run"], record.get("data", {})
    return {
        "round": number,
        "model": record.get("model"),
        "opponents": {"folder": run["data"], "digest": data.get("digest")},
        "steps": record.get("steps"),
        "learning_rate": run["plan"]["learning_rate"],
        "objective": run["objective"],
        "status": record.get("status"),
        "sentence": record.get("sentence"),
        "pairs_seen": record.get("pairs_seen"),
        "seconds": record.get("seconds"),
        "last_check": record.get("last_check"),
    }
