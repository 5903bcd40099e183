"""The health monitor: fixed held-out pairs under fixed noise, asked the same question each time.

Its first number is winner drift: how much worse than the reference the policy denoises the
pictures people preferred. A run can have falling loss and rising accuracy and still ruin them.

An objective that reads a mean over the whole step reads the mean of each part of the check here:
the loss of a check is for comparing checks, not for comparing with the loss of training.

Read next: `findings.py`, what the numbers mean.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from palate.core.problems import DataError, HealthStop, require
from palate.core.stats import cluster_mean, cluster_share, outcomes
from palate.core.streams import Streams
from palate.data.pairs import Pair
from palate.objectives import Needs
from palate.train.batch import Batch, Batches
from palate.train.denoise import denoise
from palate.train.findings import findings, verdict
from palate.train.meter import Meter, saturated
from palate.train.noise import Fixed
from palate.train.run import Run
from palate.train.step import Learner, measure

BANDS = 3
BOOTSTRAP_DRAWS = 2000
BOTH = Needs(reference=True, rejected=True)


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Asked:
    """Held-out pairs, the same at every check.

    Attributes:
        batch: Their latents, prompts and labels, without any draw.
        prompts: The prompt of each.
    """

    batch: Batch
    prompts: tuple[str, ...]


def ask_of(run: Run, batches: Batches, held_out: Sequence[Pair]) -> Asked:
    """As many held-out pairs as a check asks.

    Raises:
        DataError: when there is no held-out pair.
    """
    require(
        len(held_out) > 0,
        got="no held-out pair that can be used",
        need="at least one, to check the run's health",
        fix="Use more prompts, or a larger split.held_out.",
        kind=DataError,
    )
    order = Streams(run.seed)("health pairs").permutation(len(held_out))
    pairs = [held_out[i] for i in order[: run.health.pairs]]
    return Asked(batch=batches.plain(pairs), prompts=tuple(pair.prompt for pair in pairs))


@final
class Monitor:
    """Asks the same held-out pairs at every check.

    Attributes:
        rows: All checks so far, as they stand in `health.jsonl`.
        meter: What training showed since the last one.
        probe: Digest of the reference's answer to a fixed question.
    """

    def __init__(self, run: Run, learner: Learner, asked: Asked) -> None:
        """Remember whom to ask, and where the weights started."""
        self._asked = asked
        self._run = run
        self._learner = learner
        self._start = {
            name: weight.detach().cpu().clone()
            for name, weight in learner.backbone.trainable().items()
        }
        self._step = 0
        self.rows: list[dict[str, Any]] = []
        self.meter = Meter()
        self.probe = learner.backbone.reference_probe()

    def check(self, step: int) -> dict[str, Any]:
        """One check: a row of numbers with its status word and sentence.

        Raises:
            HealthStop: when the reference has moved.
        """
        started, self._step = time.monotonic(), step
        probe = self._learner.backbone.reference_probe()
        require(
            probe == self.probe,
            got=f"a reference that answers {probe[:12]} where it answered {self.probe[:12]}",
            need="a reference that never changes",
            fix="Report this: some weight of the reference is being trained.",
            kind=HealthStop,
        )
        row: dict[str, Any] = {
            "step": step,
            "progress": step / self._run.plan.steps,
            **self._numbers(),
            **self.meter.read(),
            "weight_distance": self._distance(),
            "reference_probe": probe,
        }
        row |= verdict(findings(row, self.rows, self._run.health), row)
        row["seconds"] = round(time.monotonic() - started, 3)
        self.rows.append(row)
        return row

    def _numbers(self) -> dict[str, Any]:
        """Drifts, margins, accuracy and saturation over all pairs and draws."""
        draws = self._run.health.draws
        parts = self._learner.or_half(
            lambda: [self._ask(draw, part) for draw in range(draws) for part in self._parts()]
        )
        found = {name: torch.cat([p[name] for p in parts]).numpy() for name in parts[0]}
        prompts = list(self._asked.prompts) * draws
        if not all(np.isfinite(values).all() for values in found.values()):
            raise HealthStop(
                got="held-out errors that are not finite",
                need="finite numbers",
                fix="The weights are broken; resume from the last checkpoint with a smaller step.",
            )
        winner = _relative(found["chosen_error"], found["chosen_reference"])
        loser = _relative(found["rejected_error"], found["rejected_reference"])
        margin, level = found["margin"], found["level"]
        accuracy = cluster_share(outcomes(margin, np.zeros_like(margin)), prompts)
        likely = cluster_mean(margin, prompts, draws=BOOTSTRAP_DRAWS)
        judged = self._learner.objective.needs.rejected
        low, middle, high = (float(q) for q in np.quantile(margin, [0.05, 0.5, 0.95]))
        return {
            "pairs": len(self._asked.batch),
            "loss": float(found["loss"].mean()) if "loss" in found else None,
            "winner_drift": float(winner.mean()),
            "loser_drift": float(loser.mean()),
            "winner_drift_bands": self._bands(winner, level),
            "loser_drift_bands": self._bands(loser, level),
            "margin": float(margin.mean()),
            "margin_low": likely.low,
            "margin_high": likely.high,
            "margin_p05": low,
            "margin_p50": middle,
            "margin_p95": high,
            "accuracy": accuracy.asdict() if judged else None,
            "saturated": saturated(found.get("logit"), self._run.health.saturation_logit),
        }

    def _parts(self) -> list[Batch]:
        return self._asked.batch.parts(self._learner.pairs_at_once)

    @torch.no_grad()
    def _ask(self, draw: int, part: Batch) -> dict[str, Tensor]:
        backbone = self._learner.backbone
        noise = Fixed(
            streams=Streams(self._run.seed),
            path=backbone.path,
            settings=self._run.noise,
            draw=draw,
            draws=self._run.health.draws,
        )(part)
        # Noised pictures say nothing of an objective that judges other evidence in this run, nor
        # fixed numbers of one whose facts change with the policy.
        judged = self._run.evidence == "noised" and not self._learner.own
        # Averages speak to the objective only.
        voices = self._learner.averages.voices() if judged else ()
        contrast = denoise(backbone, part, noise, BOTH, step=self._step, voices=voices)
        found = measure(contrast, self._learner.objective(contrast) if judged else None, BOTH)
        return {**found, "level": noise.level.cpu().double()}

    def _bands(self, drift: np.ndarray, level: np.ndarray) -> list[float | None]:
        """Mean drift at low, middle and high noise."""
        edges = self._learner.backbone.path.levels / BANDS
        band = np.minimum((level / edges).astype(int), BANDS - 1)
        return [
            float(drift[band == i].mean()) if bool((band == i).any()) else None
            for i in range(BANDS)
        ]

    def _distance(self) -> float:
        """How far the weights have moved, relative to their size at the start."""
        moved = size = 0.0
        for name, weight in self._learner.backbone.trainable().items():
            start = self._start[name].double()
            moved += float((weight.detach().cpu().double() - start).square().sum())
            size += float(start.square().sum())
        return (moved / size) ** 0.5 if size > 0 else moved**0.5


def _relative(error: np.ndarray, reference: np.ndarray) -> np.ndarray:
    return (error - reference) / np.maximum(reference, 1e-12)
