r"""The model's own labels: which picture a run's model prefers, by its implicit preference.

$$\hat G = \frac1K \sum_{k=1}^{K} \sigma\bigl(s\,\tfrac{\beta}{2}\,
\text{margin}(t_k, \epsilon_k)\bigr)$$

The margin is how much better than its reference the model denoises the first picture than the
second, at a level and with a noise of its own in each of K draws. This is the labeler of DeDPO's
self-training (arXiv:2602.06195): a pair is labelled at another level and noise than it is trained
at, so that the label is not simply what was just taught there. There the present model labels in
every step, once (`labels.synthetic=self`); here a trained one labels once, and the mean of K
draws is ours. The authors concede that a model that learned from these pairs labels them as it
learned them: labels of pairs it has not seen are worth more.

Read next: `taught.py`, how a run's model is opened; `palate/train/noise.py`, the draws.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Final, final

import torch

import palate
from palate.backbones import Backbone
from palate.core.files import digest_json
from palate.core.problems import require
from palate.core.streams import Streams
from palate.data.comparison import Source
from palate.data.pairs import Pair
from palate.data.synthetic import agreement_of
from palate.label import Answer, Journal, Pictures, Question, Told
from palate.objectives import Needs
from palate.recipes.taught import Taught
from palate.train.batch import Batch, Batches
from palate.train.cache import Cache
from palate.train.denoise import denoise
from palate.train.noise import Fresh

DRAWS: Final = 8
AT_ONCE: Final = 16
LATENTS, NOT_FINITE = "latents", "not-finite"
_PURPOSE: Final = "own label "


@final
class OwnLabeler:
    """A trained model as a judge.

    Args:
        taught: The model.
        sharpness: What logits are multiplied by: s above; None rounds the mean to 0, ½ or 1.
        draws: Levels and noises that it is asked at: K above.

    Raises:
        SettingError: for settings that make no sense.
    """

    def __init__(
        self, taught: Taught, *, sharpness: float | None = 1.0, draws: int = DRAWS
    ) -> None:
        require(
            sharpness is None or (sharpness > 0 and math.isfinite(sharpness)),
            got=f"sharpness {sharpness}",
            need="a number above 0, or none",
            fix="Use 1 for the model's own probabilities, or none for hard labels.",
        )
        require(
            draws >= 1,
            got=f"{draws} draws",
            need="at least one",
            fix=f"Use {DRAWS}; more draws make labels that depend less on luck.",
        )
        self._taught, self._sharpness, self._draws = taught, sharpness, draws
        self._cache: Cache | None = None

    @property
    def judge(self) -> str:
        """The method it was trained with, and a digest of everything."""
        return f"own {self._taught.run.objective.name} {self.identity[:12]}"

    @property
    def source(self) -> Source:
        """The model itself."""
        return "self"

    @property
    def identity(self) -> str:
        """Digest of the model, the draws, β and sharpness."""
        return digest_json(["own", self.asks, self._taught.beta, self._sharpness])

    @property
    def asks(self) -> str:
        """Digest of what margins depend on: the model and the draws."""
        return digest_json(["own margins", self._taught.facts, self._draws])

    def label(
        self, questions: Sequence[Question], pictures: Pictures, journal: Journal, told: Told
    ) -> Iterator[tuple[Question, Answer]]:
        """Answer every question; margins are kept a few pairs at a time."""
        told(0, len(questions))
        for start in range(0, len(questions), AT_ONCE):
            few = questions[start : start + AT_ONCE]
            fresh = [each for each in few if journal.known(_name(each)) is None]
            if fresh:
                journal.keep_all(self._ask(fresh, pictures))
            for question in few:
                yield question, self._answer(journal.known(_name(question)) or {})
            told(start + len(few), len(questions))

    def _ask(self, questions: Sequence[Question], pictures: Pictures) -> dict[str, dict[str, Any]]:
        """The margins of some pairs in every draw, by their names."""
        taught = self._taught
        pairs = [_pair(question) for question in questions]
        still = taught.run.pictures.model_copy(
            update={"crop": "center", "flip": False, "latents": "mean"}
        )
        cache = self._opened()
        cache.fill(taught.backbone, pairs, still, pictures, _silence)
        broken = {pair.id for pair in pairs if cache.refusal(pair, still) is not None}
        sound = [pair for pair in pairs if pair.id not in broken]
        found: dict[str, dict[str, Any]] = {name: {"refused": LATENTS} for name in broken}
        if not sound:
            return found
        streams = Streams(taught.run.seed)
        # Always as many rows: another number of them may change the last digits of an error, and
        # β makes much of these. A pair must not depend on which others were left to ask.
        rows = [*sound, *[sound[-1]] * (AT_ONCE - len(sound))]
        batch = Batches(cache=cache, pictures=still, streams=streams).plain(rows)
        source = Fresh(
            streams=streams, path=taught.backbone.path, settings=taught.run.noise, purpose=_PURPOSE
        )
        drawn = [_margins(taught.backbone, batch, source, draw) for draw in range(self._draws)]
        for row, pair in enumerate(sound):
            levels, margins = zip(*(draw[row] for draw in drawn), strict=True)
            found[pair.id] = {"levels": levels, "margins": [_kept(each) for each in margins]}
        return found

    def _answer(self, known: Any) -> Answer:
        """The mean of what was said in all draws."""
        signature = {
            "palate": palate.__version__,
            "identity": self.identity,
            "run": self._taught.run.digest,
            "method": self._taught.run.objective.name,
            "beta": self._taught.beta,
            "step": self._taught.steps,
            "weights": self._taught.trained,
            "draws": self._draws,
        }
        if "refused" in known:
            return Answer(agreement=None, reason=known["refused"], signature=signature)
        logits = [0.5 * self._taught.beta * float(margin) for margin in known["margins"]]
        signature |= {"levels": list(known["levels"]), "logits": [*map(_kept, logits)]}
        if not all(map(math.isfinite, logits)):
            return Answer(agreement=None, reason=NOT_FINITE, signature=signature)
        sure = 1.0 if self._sharpness is None else self._sharpness
        mean = math.fsum(agreement_of(logit, sure) for logit in logits) / len(logits)
        agreement = mean if self._sharpness is not None else agreement_of(mean - 0.5, None)
        return Answer(agreement=agreement, signature=signature)

    def _opened(self) -> Cache:
        if self._cache is None:
            backbone = self._taught.backbone
            side = self._taught.run.pictures.resolution or backbone.resolution
            self._cache = Cache(self._taught.cache, backbone, side)
        return self._cache


@torch.no_grad()
def _margins(backbone: Backbone, batch: Batch, source: Fresh, draw: int) -> list[tuple[int, float]]:
    """Level and margin of every pair in one draw."""
    visited = replace(batch, visits=(draw,) * len(batch))
    question = source(visited)
    contrast = denoise(backbone, visited, question, Needs(reference=True))
    return list(zip(question.level.tolist(), contrast.margin.tolist(), strict=True))


def _pair(question: Question) -> Pair:
    """A question as trainings see it; which picture is called chosen means nothing."""
    first, second = question.images
    return Pair(
        id=_name(question),
        prompt=question.prompt,
        chosen=first.sha256,
        rejected=second.sha256,
        agreement=0.5,
        judge="",
        source="self",
    )


def _name(question: Question) -> str:
    return digest_json(question.key)


def _kept(value: float) -> float | str:
    """JSON has no word for what is not finite."""
    return value if math.isfinite(value) else str(value)


def _silence(text: str) -> None:
    """Tell nobody: the labeler says how far it is."""
