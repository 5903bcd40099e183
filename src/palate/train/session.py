"""Everything a run holds open while it learns, and the few things it does with it.

Read next: `loop.py`, the order in which it does them.
"""

import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, final

import torch

from palate.backbones.backbone import Backbone
from palate.core.problems import HealthStop, StateError, require
from palate.train import checkpoint
from palate.train.book import Book
from palate.train.changes import INEXACT
from palate.train.feed import Feed
from palate.train.guard import IDLE, Guard
from palate.train.health import Monitor
from palate.train.log import Event, Kind, RowLog, Tracker, open_tracker, read_rows
from palate.train.meter import step_row
from palate.train.place import BOARD, HEALTH, Place, enough_room
from palate.train.run import Run
from palate.train.start import start_facts
from palate.train.step import Learner, Outcome, judged

Tell = Callable[[Event], None]
# Why a step may be left out without anything being broken.
CALM = ("loss scale lowered", *IDLE)
# What is computed, and may differ in its last digits on another machine.
PROBED = ("reference_probe", "latents and embeddings", "facts", "people")


@final
@dataclass(slots=True, kw_only=True)
class Session:
    """An open run.

    Attributes:
        run: Its settings.
        place: Its folder.
        learner: Model, objective and optimizer.
        monitor: The health monitor.
        guard: What keeps broken numbers out.
        feed: The batch of each step.
        facts: What is known for the record.
        tell: Hears events.
        book: Whose embedding each pair is learned with; None for a run without people.
        pairs_seen: Pairs trained on so far.
        seconds: Time spent in earlier attempts.
    """

    run: Run
    place: Place
    learner: Learner
    monitor: Monitor
    guard: Guard
    feed: Feed
    facts: dict[str, Any]
    tell: Tell
    book: Book | None = None
    pairs_seen: int = 0
    seconds: float = 0.0
    logs: tuple[RowLog, ...] | None = None
    tracker: Tracker | None = None
    opened: float = field(default_factory=time.monotonic)

    def say(
        self, kind: Kind, text: str, step: int = 0, facts: Mapping[str, Any] | None = None
    ) -> None:
        """Send an event."""
        total = self.run.plan.steps
        self.tell(Event(kind=kind, text=text, step=step, total=total, facts=facts or {}))

    def elapsed(self) -> float:
        """Seconds of training, earlier attempts included."""
        return self.seconds + time.monotonic() - self.opened

    def restore(self) -> int:
        """Put the newest whole checkpoint back; returns the steps already done.

        Raises:
            StateError: when it belongs to another model or other data.
        """
        found, notes = checkpoint.newest(self.place.checkpoints)
        for note in notes:
            self.say("warning", note)
        step = 0 if found is None else found.step
        if found is None:
            self._agree(self.place.identity)
            # Starting again: pairs set aside by an attempt that left nothing are forgotten.
            self.guard.load_state({"quarantine": {}, "skipped": 0, "window": []})
        keep = () if found is None else self._load(found)
        self.logs = self.place.logs(keep, pairs=bool(self.learner.objective.needs.kept))
        self.tracker = open_tracker(self.run.plan.tensorboard, self.place.out / BOARD, step)
        self.monitor.rows.extend(read_rows(self.place.out / HEALTH))
        if found is not None:
            self.say("resume", f"Resuming after step {step} ({self._exact(found)}).", step)
        return step

    def learn(self, number: int) -> None:
        """Take one step, counted from 0, and log it.

        Raises:
            HealthStop: when too much was broken, or memory ran out.
        """
        started = time.monotonic()
        halved = self.learner.halved
        batch = self.feed.batch(number)
        outcome = self.learner.step(batch, number)
        self.pairs_seen += outcome.pairs if outcome.skipped is None else 0
        self.monitor.meter.add(outcome)
        self.guard.set_aside(number + 1, outcome.culprits)
        self._keep(number + 1, outcome)
        row = step_row(outcome, number + 1, self.run.health.saturation_logit)
        row["dropped"] = self.feed.dropped(number)
        row["pairs_seen"] = self.pairs_seen
        row |= self.feed.told(number)
        row["seconds"] = round(time.monotonic() - started, 4)
        if self.learner.halved and not halved:
            text = f"Memory ran out; going on with {self.learner.pairs_at_once} pairs at once, "
            self.say("warning", f"{text}which changes nothing but the last digits.", number + 1)
        if (number + 1) % self.run.plan.log_every == 0:
            self._write(0, row, "train")
        self.say("step", _line(row), number + 1, row)
        if outcome.culprits or outcome.skipped:
            text = f"step {number + 1}: {outcome.skipped or 'some pairs were not finite'}"
            self.say("warning", f"{text} ({len(outcome.culprits)} pairs set aside).", number + 1)
        lost = outcome.skipped is not None and outcome.skipped not in CALM
        seen, broken = judged(batch, outcome.culprits)
        self.guard.count(seen=seen, broken=broken, skipped=lost)
        self.guard.rest(outcome.skipped)

    def check(self, step: int) -> None:
        """Ask the health monitor, and stop if it says so.

        Raises:
            HealthStop: with the monitor's sentence.
        """
        row = self.monitor.check(step)
        self._write(1, row, "health")
        self.say("check", row["sentence"], step, row)
        require(
            row["status"] != "stopped",
            got=row["sentence"],
            need="a run whose guards agree",
            fix="The last checkpoint is whole. To go on anyway: "
            f"palate resume {self.place.out} --health.stop false",
            kind=HealthStop,
        )

    def save(self, step: int) -> None:
        """Write a checkpoint.

        Raises:
            StateError: when the disk refuses; the one before stays.
        """
        logs = self._open_logs()
        state = {
            "pairs_seen": self.pairs_seen,
            "learner": self.learner.state(),
            "guard": self.guard.state(),
            "meter": self.monitor.meter.state(),
            "logs": [log.position() for log in logs],
            "identity": self._identity(),
            "machine": machine(self.learner.backbone),
            "run": self.run.values(),
            "run_digest": self.run.digest,
            "seconds": round(self.elapsed(), 3),
        }
        weights, moments = self.learner.backbone.state(), self.learner.tensors()
        path = checkpoint.save(
            self.place.checkpoints, step, weights, moments, state, keep=self.run.plan.keep_last
        )
        self.say("checkpoint", f"Saved {path.name}.", step)

    def begin(self) -> None:
        """Before the first step: the policy must be the reference, exactly (A8).

        Raises:
            HealthStop: when it is not.
            StateError: when two checkpoints would not fit on the disk.
        """
        weights, moments = self.learner.backbone.state(), self.learner.tensors()
        size = sum(t.numel() * t.element_size() for t in [*weights.values(), *moments.values()])
        enough_room(self.place.out, size)
        first = self.feed.batch(0)
        broken = first.broken()
        first = first.rows([i for i, name in enumerate(first.ids) if name not in broken])
        self.facts["start"] = start_facts(self.learner, first) if len(first) else {}
        for sentence in self.facts["start"].get("warnings", []):
            self.say("warning", sentence)

    def close(self) -> None:
        """Close what is open."""
        for log in self.logs or ():
            log.close()
        if self.tracker is not None:
            self.tracker.close()

    def _load(self, found: checkpoint.Checkpoint) -> tuple[int, ...]:
        state = found.state
        same = self._same_machine(state)
        # Another machine may compute other last digits; the digests of files still agree.
        self._agree({k: v for k, v in state["identity"].items() if same or k not in PROBED})
        self.learner.backbone.load_state(found.weights)
        self.learner.load_tensors(found.optimizer)
        resized = "plan.micro_batch" in self.place.changed
        # A new micro-batch may be halved once, like any other.
        learner = {**state["learner"], **({"halved": False} if resized else {})}
        self.learner.load_state(learner, plan_changed=resized)
        self.guard.load_state(state["guard"])
        self.monitor.meter.load_state(state["meter"])
        self.pairs_seen, self.seconds = int(state["pairs_seen"]), float(state["seconds"])
        return tuple(map(int, state["logs"]))

    def _agree(self, identity: Mapping[str, str]) -> None:
        """Refuse another model or other data than before.

        Raises:
            StateError: naming what differs.
        """
        mine = self._identity()
        for name, value in identity.items():
            require(
                mine.get(name) == value,
                got=f"{name} {str(mine.get(name))[:16]}",
                need=f"{str(value)[:16]}, as when the run was started",
                fix="Put the same model and data back, or start a new run.",
                kind=StateError,
            )

    def _exact(self, found: checkpoint.Checkpoint) -> str:
        """Whether what follows has the bits of a run that never stopped."""
        if changed := [name for name in INEXACT if name in self.place.changed]:
            return f"not bitwise: {', '.join(changed)} changed"
        if not self._same_machine(found.state):
            return "not bitwise: other machine"
        cpu = self.learner.backbone.device.type == "cpu"
        exact = cpu or torch.are_deterministic_algorithms_enabled()
        return "bitwise" if exact else f"not bitwise on {self.learner.backbone.device.type}"

    def _identity(self) -> dict[str, str]:
        """What a checkpoint must agree with to be resumed."""
        return {
            **{f"model {k}": v for k, v in self.learner.backbone.digests.items()},
            "data": self.facts["data"]["digest"],
            "facts": self.facts["data"].get("facts", "none"),
            "rollout": self.facts.get("rollout", {}).get("digest", "none"),
            "people": "none" if self.book is None else self.book.digest,
            "reference_probe": self.monitor.probe,
            "latents and embeddings": self.facts["cache"]["used"],
        }

    def _same_machine(self, state: Mapping[str, Any]) -> bool:
        return state["machine"] == machine(self.learner.backbone)

    def _open_logs(self) -> tuple[RowLog, ...]:
        if self.logs is None:
            raise StateError(got="a run that is not open", need="restore() first", fix="Call it.")
        return self.logs

    def _keep(self, step: int, outcome: Outcome) -> None:
        """Write down, pair by pair, what the objective thinks worth keeping."""
        names = [n for n in self.learner.objective.needs.kept if n in outcome.measures]
        if not names or outcome.skipped is not None:
            return
        columns = [outcome.measures[name].tolist() for name in names]
        for pair, *values in zip(outcome.ids, *columns, strict=True):
            kept = dict(zip(names, values, strict=True))
            self._open_logs()[2].write({"step": step, "pair": pair, **kept})

    def _write(self, which: int, row: Mapping[str, Any], room: str) -> None:
        self._open_logs()[which].write(row)
        if self.tracker is not None:
            self.tracker.write(row, room)


def machine(backbone: Backbone) -> dict[str, str]:
    """What bits depend on besides the run: two equal ones give equal bits."""
    return {
        "torch": torch.__version__,
        "threads": str(torch.get_num_threads()),
        "processor": platform.machine(),
        "device": str(backbone.device),
        "accelerator": torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none",
    }


def _line(row: Mapping[str, Any]) -> str:
    loss = "skipped" if row["loss"] is None else f"loss {row['loss']:.4f}"
    margin = "" if row["margin"] is None else f", margin {row['margin']:+.2e}"
    return f"step {row['step']}: {loss}{margin}"
