"""Teaches a step-aware scorer what people preferred, and measures it on pairs it has not seen.

Both pictures of a pair are noised with the same noise at the same level, drawn evenly from all
levels. The scorer is shown what it reads of the two (the picture that the frozen model predicts in
one step, or the noisy latents), and the softmax of its two scores is fitted to the label; a tie has
the label one half. A prompt counts once however many pairs it has (SPO, arXiv:2406.04314, and LPO,
arXiv:2502.01051, train their scorers so).

Read next: `step_accuracy.py`, the measurement; `palate/scorers/stepclip.py` and
`palate/scorers/latent.py`, the two kinds.
"""

import shutil
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor

from palate.backbones import shipped
from palate.backbones.folder import Folder
from palate.core.files import load_weights, new_folder, read_json, save_weights, write_json
from palate.core.lock import sole_writer
from palate.core.problems import HealthStop, StateError, require, unknown
from palate.core.record import provenance
from palate.core.stats import Estimate
from palate.data.loader import Order
from palate.data.pairs import Pair
from palate.objectives.logistic import soft_label_loss
from palate.recipes.step_accuracy import Progress, step_accuracy
from palate.recipes.step_studio import Lesson, Studio, Tell, open_studio
from palate.scorers.learned import Learned, open_scorer
from palate.train.groups import Plan
from palate.train.optimizer import Optimizer

TRAINING, STATE, SETTINGS, LOCK = "training.json", "state.safetensors", "settings.json", "lock"
CHECKPOINT_SECONDS = 240.0


def train_step_scorer(
    kind: str,
    data: Path | str,
    model: str,
    out: Path,
    *,
    lesson: Lesson | None = None,
    start: str | None = None,
    device: str = "cpu",
    cache: Path | None = None,
    progress: Progress | None = None,
    tell: Tell | None = None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> dict[str, Any]:
    """Teach a scorer and write its folder, with how often it is right in `training.json`.

    An interrupted training goes on when called again with the same settings: its state is kept
    beside the folder until that is finished.

    Args:
        kind: `step-clip` or `latent`.
        data: The frozen snapshot of pairs; ties in it are used.
        model: Whose unfinished pictures are judged: a folder, a Hub id or `shipped`.
        out: The scorer's folder.
        lesson: How it is taught.
        start: A CLIP folder or Hub id. `step-clip` starts from it, or without it from chance;
            `latent` takes its text projection.
        device: Where to compute.
        cache: Where latents and embeddings are kept; beside the folder when left out.
        progress: Told (steps done, steps in all).
        tell: Told what else is worth a line.
        checkpoint_seconds: How often the state is kept.

    Returns:
        What `training.json` says.

    Raises:
        SettingError: for an unknown kind, or settings that make no sense.
        DataError: when there is nothing to learn from, or nothing to measure with.
        StateError: when the folder exists, or the state beside it is another training's.
        HealthStop: when the loss is not finite.
    """
    lesson = lesson or Lesson()
    plan = lesson.plan
    if kind not in KINDS:
        raise unknown("kind of scorer", kind, KINDS)
    require(
        not out.exists(),
        got=f"{out}, which exists",
        need="a new folder",
        fix="Choose another name, or remove it first.",
        kind=StateError,
    )
    kept = cache or out.parent / "cache"
    studio = open_studio(data, model, lesson, device=device, cache=kept, tell=tell)
    scorer = KINDS[kind](model, start, lesson.seed, device)
    facts = {
        "kind": kind,
        "lesson": asdict(lesson),
        "start": start,
        "model": {"name": model, "digests": dict(studio.showing.backbone.digests)},
        "data": studio.facts(),
    }
    work = out.with_name(f"{out.name}-work")
    work.mkdir(parents=True, exist_ok=True)
    with sole_writer(work / LOCK):
        _claim(work, facts)
        school = _School(scorer, studio, plan, work / STATE, checkpoint_seconds)
        school.teach(progress)
        accuracy = step_accuracy(scorer, studio.showing, list(studio.held_out))
        record = provenance(
            **facts,
            identity=scorer.identity,
            last_loss=school.loss,
            accuracy={name: each.asdict() for name, each in accuracy.items()},
            seconds=school.seconds,
        )
        with new_folder(out) as folder:
            scorer.write(folder)
            write_json(folder / TRAINING, record)
    shutil.rmtree(work, ignore_errors=True)
    return record


def measure_step_scorer(
    folder: Path,
    data: Path | str,
    model: str,
    *,
    device: str = "cpu",
    cache: Path | None = None,
    progress: Progress | None = None,
    tell: Tell | None = None,
) -> tuple[dict[str, Estimate], str]:
    """How often a scorer is right on some pairs, and which these are.

    On the data that it was taught with, only the prompts held out then are asked about; on other
    data, all.

    Raises:
        WeightsError: when the folder is no scorer's.
        DataError: when the data holds no pair with a preferred picture.
    """
    scorer = open_scorer(folder, device=device)
    record = read_json(folder / TRAINING)
    lesson = Lesson(**record["lesson"])
    kept = cache or folder.parent / "cache"
    studio = open_studio(data, model, lesson, device=device, cache=kept, tell=tell)
    same = record["data"]["digest"] == studio.pairs.digest
    pairs, which = (studio.held_out, "held-out prompts") if same else (studio.pairs, "all prompts")
    return step_accuracy(scorer, studio.showing, list(pairs), progress=progress), which


def pair_loss(
    chosen: Float[Tensor, " b"],
    rejected: Float[Tensor, " b"],
    agreement: Float[Tensor, " b"],
    weight: Float[Tensor, " b"],
) -> Float[Tensor, ""]:
    """The weighted divergence of the two scores' softmax from the labels; at best 0.

    A tie (agreement one half) has its least at equal scores.
    """
    least = torch.special.entr(agreement) + torch.special.entr(1 - agreement)
    loss = soft_label_loss(chosen - rejected, agreement) - least
    return (loss * weight).sum() / weight.sum()


@final
class _School:
    """A scorer, its optimizer, and where both are kept while it is taught.

    Attributes:
        loss: The last step's loss.
        seconds: Spent on steps, over all interruptions.
    """

    def __init__(
        self, scorer: Learned, studio: Studio, plan: Plan, file: Path, every: float
    ) -> None:
        self._scorer, self._showing, self._file, self._every = scorer, studio.showing, file, every
        self._pairs, self._plan = studio.train, plan
        self._share = {
            prompt: 1 / n for prompt, n in Counter(p.prompt for p in studio.train).items()
        }
        scorer.network.requires_grad_(True)
        self._optimizer = Optimizer(dict(scorer.network.named_parameters()), plan)
        self._step, self.loss, self.seconds = 0, float("nan"), 0.0
        if file.is_file():
            self._restore()

    def teach(self, progress: Progress | None) -> None:
        """Take the steps that are left."""
        order = Order(len(self._pairs), self._plan.batch, self._showing.batches.streams.seed)
        saved = time.monotonic()
        while self._step < self._plan.steps:
            pairs = [self._pairs[index] for index in order.indices(self._step)]
            started = time.monotonic()
            self.loss = self._descend(pairs, order.visits(self._step))
            self.seconds += time.monotonic() - started
            self._step += 1
            if time.monotonic() - saved > self._every or self._step == self._plan.steps:
                self._save()
                saved = time.monotonic()
            if progress is not None:
                progress(self._step, self._plan.steps)
        self._scorer.network.requires_grad_(False)

    def _descend(self, pairs: Sequence[Pair], visits: Sequence[int]) -> float:
        """One step down the gradient of the loss."""
        streams, showing = self._showing.batches.streams, self._showing
        levels = showing.backbone.path.levels
        named = list(zip(pairs, visits, strict=True))
        level = [streams("scorer level", at, pair.id).integer(0, levels) for pair, at in named]
        noise = torch.stack([showing.noise("scorer", pair, at) for pair, at in named])
        batch = showing.batches(pairs, visits)
        seen = showing.show(self._scorer.reads, batch, torch.tensor(level), noise)
        scores = self._scorer.judge(seen, [pair.prompt for pair in pairs] * 2, level * 2)
        chosen, rejected = scores.chunk(2)
        loss = pair_loss(
            chosen,
            rejected,
            batch.agreement.to(scores),
            torch.tensor([self._share[pair.prompt] for pair in pairs]).to(scores),
        )
        require(
            bool(torch.isfinite(loss)),
            got=f"a loss of {loss.item()} in step {self._step + 1}",
            need="a finite loss",
            fix="Use a smaller learning rate; nothing was written.",
            kind=HealthStop,
        )
        self._optimizer.clear()
        loss.backward()
        self._optimizer.clip()
        self._optimizer.set_rate(self._step)
        self._optimizer.inner.step()
        return loss.item()

    def _save(self) -> None:
        tensors = {f"network/{n}": t for n, t in self._scorer.network.state_dict().items()}
        tensors |= {f"optimizer/{n}": t for n, t in self._optimizer.state().items()}
        tensors["step"] = torch.tensor(self._step)
        tensors["told"] = torch.tensor([self.loss, self.seconds], dtype=torch.float64)
        save_weights(self._file, tensors)

    def _restore(self) -> None:
        tensors = load_weights(self._file)
        self._step = int(tensors["step"])
        self.loss, self.seconds = tensors["told"].tolist()
        self._scorer.network.load_state_dict(_under("network/", tensors))
        self._optimizer.load_state(_under("optimizer/", tensors))


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names begin with the prefix, without it."""
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


def _claim(work: Path, facts: Mapping[str, Any]) -> None:
    """Note which training a work folder belongs to, or see that it is this one."""
    note = work / SETTINGS
    if not note.is_file():
        write_json(note, facts)
    require(
        read_json(note) == facts,
        got=f"{work} with the state of another training",
        need=f"the settings in {note}, or no such folder",
        fix="Repeat those settings to go on, or remove the folder to begin again.",
        kind=StateError,
    )


def _folder(model: str) -> Path:
    return Folder.open(shipped() if model == "shipped" else model).path


def _step_clip(model: str, start: str | None, seed: int, device: str) -> Learned:
    from palate.scorers.stepclip import Shape, StepCLIP

    if start is not None:
        return StepCLIP.from_clip(start, device=device)
    return StepCLIP.untaught(_folder(model) / "tokenizer", Shape(), seed=seed, device=device)


def _latent(model: str, start: str | None, seed: int, device: str) -> Learned:
    from palate.scorers.latent import LatentReward

    return LatentReward.from_pipeline(_folder(model), projection=start, device=device)


KINDS: Mapping[str, Callable[[str, str | None, int, str], Learned]] = {
    "step-clip": _step_clip,
    "latent": _latent,
}
