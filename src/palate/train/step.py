"""Contrast → Verdict → gradient: one optimizer step, or none at all.

Micro-batches are added up as sums of per-pair losses divided by the pairs of the whole batch,
so that splitting a batch changes nothing but rounding. A step is whole or it did not happen:
broken numbers and a full memory both leave weights and optimizer exactly as they were.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, TypeVar, final

import torch
from torch import Tensor

from palate.backbones.backbone import Backbone
from palate.core.contrast import Contrast, Verdict
from palate.core.problems import HealthStop
from palate.objectives import Needs, Objective
from palate.train.averages import Averages
from palate.train.batch import Rows
from palate.train.denoise import denoise
from palate.train.groups import Plan
from palate.train.means import Mean, mean_of_all, several_processes, together
from palate.train.noise import Question
from palate.train.optimizer import Optimizer

Answer = TypeVar("Answer")
# Why a step may move nothing: who is nobody gets the base model, in which nothing is trained.
FOR_NOBODY = "every pair was for nobody"
Source = Callable[[Any], Question]
# What a full memory says on a CPU, where torch has no class of its own for it.
_FULL = ("can't allocate memory", "not enough memory")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one step did.

    Attributes:
        pairs: Judgements that took part; for frozen pairs, one each.
        rate: The learning rate.
        norm: Gradient norm before clipping, or None where there was no update.
        skipped: Why the update was left out, or None.
        culprits: Pairs found broken in this step, and why.
        measures: Per-pair numbers: loss, and margin, errors, gains and logit where they exist.
        ids: The pairs the measures belong to.
    """

    pairs: int
    rate: float
    norm: float | None = None
    skipped: str | None = None
    culprits: Mapping[str, str] = field(default_factory=dict)
    measures: Mapping[str, Tensor] = field(default_factory=dict)
    ids: tuple[str, ...] = ()


@final
class Learner:
    """The model, its objective and its optimizer, and the one way they move.

    Attributes:
        own: Facts the model supplies itself: name → the noise it is asked at. Its answer is the
            probability it gives the chosen picture there.
        pairs_at_once: Pairs per forward pass; halved once when memory runs out.
        halved: Whether that has happened.
    """

    def __init__(
        self,
        backbone: Backbone,
        objective: Objective,
        source: Source,
        plan: Plan,
        own: Mapping[str, Source] = MappingProxyType({}),
    ) -> None:
        """Put a model to work."""
        self.own = own
        self.backbone = backbone
        self.objective = objective
        self.source = source
        self.plan = plan
        self.optimizer = Optimizer(backbone.trainable(), plan)
        decays = [getattr(objective, name) for name in objective.needs.averages]
        self.averages = Averages(backbone.trainable(), decays)
        self.pairs_at_once = plan.pairs_at_once
        self.halved = False
        half = backbone.precision == "fp16" and backbone.device.type == "cuda"
        self.scaler = torch.amp.GradScaler("cuda", enabled=half)

    def step(self, batch: Rows, number: int) -> Outcome:
        """Learn from one batch. `number` counts steps from 0.

        Raises:
            HealthStop: when memory runs out even at half the micro-batch, or in the update.
        """
        rate = self.optimizer.set_rate(number)
        broken = batch.broken()
        if broken:
            batch = batch.rows([i for i, name in enumerate(batch.ids) if name not in broken])
        if not len(batch):
            return Outcome(pairs=0, rate=rate, skipped=batch.nothing, culprits=broken)
        measures = self.or_half(lambda: self._gradients(batch, number))
        found = _culprits(batch, measures["loss"])
        if not bool(torch.isfinite(measures["loss"]).all()):
            self.optimizer.clear()
            return Outcome(
                pairs=batch.judgements, rate=rate, skipped="loss is not finite",
                culprits={**broken, **found}, measures=measures, ids=batch.ids,
            )  # fmt: skip
        if not self.optimizer.pushed:
            return Outcome(
                pairs=batch.judgements, rate=rate, skipped=FOR_NOBODY,
                culprits=broken, measures=measures, ids=batch.ids,
            )  # fmt: skip
        norm = self._update()
        return Outcome(
            pairs=batch.judgements,
            rate=rate,
            norm=norm if math.isfinite(norm) else None,
            skipped=None if math.isfinite(norm) else self._excuse(),
            culprits=broken,
            measures=measures,
            ids=batch.ids,
        )

    def look(self, batch: Rows) -> dict[str, Tensor]:
        """Per-pair numbers of a batch, without learning from it.

        Raises:
            HealthStop: when memory runs out twice.
        """
        return self.or_half(lambda: self._look(batch))

    @torch.no_grad()
    def _look(self, batch: Rows) -> dict[str, Tensor]:
        found: list[dict[str, Tensor]] = []
        for part in batch.parts(self.pairs_at_once):
            contrast = self.evidence(part, 0)
            found.append(measure(contrast, self.objective(contrast), self.objective.needs))
        return {name: torch.cat([part[name] for part in found]) for name in found[0]}

    def state(self) -> dict[str, Any]:
        """What a checkpoint has to hold besides tensors."""
        return {
            "pairs_at_once": self.pairs_at_once,
            "halved": self.halved,
            "scaler": self.scaler.state_dict(),
        }

    def load_state(self, state: Mapping[str, Any], *, plan_changed: bool) -> None:
        """Go on where a checkpoint stood."""
        self.halved = bool(state["halved"])
        if not plan_changed:
            self.pairs_at_once = int(state["pairs_at_once"])
        if state["scaler"]:
            self.scaler.load_state_dict(dict(state["scaler"]))

    def or_half(self, work: Callable[[], Answer]) -> Answer:
        """Do some work; where memory runs out, once more with half the pairs at once.

        Raises:
            HealthStop: when that was not enough, or has been done before.
        """
        try:
            return work()
        except (RuntimeError, MemoryError) as error:
            self.optimizer.clear()
            if not is_full(error):
                raise
            if self.halved or self.pairs_at_once == 1:
                raise _full(self.pairs_at_once) from None
        self.halved, self.pairs_at_once = True, math.ceil(self.pairs_at_once / 2)
        if self.backbone.device.type == "cuda":
            torch.cuda.empty_cache()
        try:
            return work()
        except (RuntimeError, MemoryError) as error:
            self.optimizer.clear()
            if not is_full(error):
                raise
            raise _full(self.pairs_at_once) from None

    def evidence(self, part: Rows, number: int) -> Contrast:
        """What policy, reference and averages say of some rows at a step, counted from 0."""
        found = self._asked(part, self.source(part), number)
        own = {name: self._believed(part, source, number) for name, source in self.own.items()}
        return replace(found, facts={**found.facts, **own}) if own else found

    @torch.no_grad()
    def _believed(self, part: Rows, source: Source, number: int) -> Tensor:
        """How probable the policy itself finds it that each chosen picture wins, [b]."""
        contrast = self._asked(part, source(part), number)
        return torch.sigmoid(self.objective(contrast).extras["logit"])

    def _asked(self, part: Rows, question: Question, number: int) -> Contrast:
        return denoise(
            self.backbone,
            part,
            question,
            self.objective.needs,
            step=number,
            progress=number / self.plan.steps,
            voices=self.averages.voices(),
        )

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint has to hold besides the trained weights."""
        return {**self.optimizer.state(), **self.averages.state()}

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Put the optimizer's state and the averages back."""
        self.optimizer.load_state(self.averages.load_state(tensors))

    def _gradients(self, batch: Rows, number: int) -> dict[str, Tensor]:
        """Add up the gradients of all micro-batches; returns per-pair numbers.

        A micro-batch whose pairs are all for nobody has no gradient, and adds none.
        """
        self.optimizer.clear()
        measures: list[dict[str, Tensor]] = []
        parts = batch.parts(self.pairs_at_once)
        means = self._means(parts, number)
        for part in parts:
            contrast = replace(self.evidence(part, number), mean=means())
            verdict = self.objective(contrast)
            loss = (
                verdict.loss if part.weight is None else verdict.loss * part.weight.to(verdict.loss)
            )
            # A sum over the pairs of the whole batch: a ragged last part weighs what it holds.
            if loss.requires_grad:
                self.scaler.scale(loss.sum() / len(batch)).backward()
            measures.append(measure(contrast, verdict, self.objective.needs))
        return {name: torch.cat([part[name] for part in measures]) for name in measures[0]}

    @torch.no_grad()
    def _means(self, parts: Sequence[Rows], number: int) -> Callable[[], Mean]:
        """Means over the whole optimizer step, for each of its parts in turn.

        Where the step is split, the objective judges all its pairs at once first, without
        gradient; what `mean` said then is said again to every part.
        """
        if not self.objective.whole_batch or (len(parts) == 1 and not several_processes()):
            return lambda: mean_of_all
        answers: list[Tensor] = []

        def remember(values: Tensor) -> Tensor:
            answers.append(mean_of_all(values))
            return answers[-1]

        found = [self.evidence(part, number) for part in parts]
        whole = together(found, predictions=self.objective.needs.predictions)
        self.objective(replace(whole, mean=remember))

        def replay() -> Mean:
            said = iter(list(answers))
            return lambda _values: next(said)

        return replay

    def _update(self) -> float:
        """Clip and step, unless the gradient is not finite; returns its norm."""
        self.scaler.unscale_(self.optimizer.inner)
        norm = self.optimizer.clip()
        try:
            if math.isfinite(norm):
                self.scaler.step(self.optimizer.inner)
                self.averages.update()
            self.scaler.update()
        except (RuntimeError, MemoryError) as error:
            if not is_full(error):
                raise
            raise _full(self.pairs_at_once) from None
        finally:
            self.optimizer.clear()
        return norm

    def _excuse(self) -> str:
        """Why a gradient was not finite: under fp16 it is how the loss scale finds its size."""
        if self.scaler.is_enabled() and self.scaler.get_scale() >= 1.0:
            return "loss scale lowered"
        return "gradient is not finite"


def is_full(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on any device."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _FULL)


def measure(contrast: Contrast, verdict: Verdict | None, needs: Needs) -> dict[str, Tensor]:
    """Everything known per pair, without gradient, in float64 on the CPU."""
    chosen, rejected = contrast.chosen, contrast.rejected
    found = {"chosen_error": chosen.error}
    if verdict is not None:
        found |= {"loss": verdict.loss, **verdict.extras}
    if needs.reference:
        found |= {"chosen_gain": chosen.gain, "chosen_reference": chosen.reference_error}
    if rejected is not None:
        found["rejected_error"] = rejected.error
    if rejected is not None and needs.reference:
        found |= {"rejected_gain": rejected.gain, "rejected_reference": rejected.reference_error}
        found["margin"] = contrast.margin
    return {name: value.detach().cpu().double() for name, value in found.items()}


def judged(batch: Rows, culprits: Mapping[str, str]) -> tuple[int, int]:
    """Judgements of a batch, and how many of them are broken: those that a broken row rests on.

    A culprit without a row, such as a picture that has no finite score, is a judgement that
    nobody could make.
    """
    rows = [i for i, name in enumerate(batch.ids) if name in culprits]
    unmade = len(culprits.keys() - set(batch.ids))
    return batch.judgements + unmade, batch.rows(rows).judgements + unmade


def _culprits(batch: Rows, loss: Tensor) -> dict[str, str]:
    """Pairs whose own loss is not finite, unless most are: then it is the model, not the pairs."""
    bad = [name for name, value in zip(batch.ids, loss.tolist(), strict=True)
           if not math.isfinite(value)]  # fmt: skip
    return dict.fromkeys(bad, "loss is not finite") if 2 * len(bad) <= len(batch) else {}


def _full(pairs: int) -> HealthStop:
    return HealthStop(
        got=f"not enough memory for {pairs} pairs at once",
        need="more memory, or fewer pairs at once",
        fix="Resume with a smaller plan.micro_batch, or plan.gradient_checkpointing=true.",
    )
