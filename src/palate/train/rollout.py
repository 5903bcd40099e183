"""Pictures the policy draws while it trains, as the batch of one optimizer step.

One round of drawing serves one optimizer step: what was drawn is always the present policy's own,
and the reference it is compared with never moves, so nothing in a batch is ever stale. Every draw
is named by the prompt and by how often it has come up, so a resumed run draws the same.

Read next: `judged.py`, what is drawn and how it is judged; `taken.py`, what is asked about it.
"""

from collections.abc import Callable, Sequence
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from palate.backbones.backbone import Condition
from palate.core.problems import HealthStop
from palate.data.loader import Order
from palate.train.judged import LABELS, Found, Round, Verdicts, trained_steps
from palate.train.pen import Judge, Pen
from palate.train.step import is_full
from palate.train.taken import Steps, sensitivity


@final
class RolloutFeed:
    """Batches that the policy draws itself, for prompts in an order of their own in each pass."""

    def __init__(
        self,
        *,
        prompts: Sequence[str],
        told: Callable[[Sequence[str]], Condition],
        order: Order,
        pen: Pen,
        judge: Judge,
    ) -> None:
        """Remember whom to ask.

        Args:
            prompts: The prompts to train on.
            told: What the network knows of some of them.
            order: Which of them belong to which step.
            pen: Draws.
            judge: Scores what is drawn.
        """
        self._prompts, self._told, self._order = prompts, told, order
        self._pen, self._judge = pen, judge
        # A cache, not state: the batch of a step is asked for before the first one, and again.
        self._last: tuple[int, Steps, dict[str, Any]] | None = None

    def batch(self, number: int) -> Steps:
        """What the present policy draws at a step, counted from 0.

        Raises:
            HealthStop: when memory runs out.
        """
        return self._drawn(number)[1]

    def dropped(self, number: int) -> list[str]:
        """None: what is drawn anew is never in quarantine."""
        del number
        return []

    def told(self, number: int) -> dict[str, Any]:
        """Numbers of a step's drawing, for the log: kept share, and means of the scores."""
        return self._drawn(number)[2]

    def _drawn(self, number: int) -> tuple[int, Steps, dict[str, Any]]:
        if self._last is None or self._last[0] != number:
            texts = tuple(self._prompts[i] for i in self._order.indices(number))
            visits = tuple(self._order.visits(number))
            this = Round(prompts=texts, visits=visits, told=self._told(texts))
            try:
                self._last = (number, *self._draw(this))
            except (RuntimeError, MemoryError) as error:
                if not is_full(error):
                    raise
                raise _full(self._pen) from None
        return self._last

    def _draw(self, this: Round) -> tuple[Steps, dict[str, Any]]:
        """One round: pictures, judgements, and the pairs of steps they make."""
        found, verdicts = LABELS[self._pen.settings.labels](self._pen, self._judge, this)
        return self._joined(this, found, verdicts), _numbers(verdicts)

    def _joined(self, this: Round, found: Sequence[Found], verdicts: Sequence[Verdicts]) -> Steps:
        """All pairs as one batch; of each picture no more steps than are asked for."""
        pen, names = self._pen, this.names
        rows = [(each.number, i) for each in found for i in each.prompts]
        levels = [(pen.grid.levels[number], pen.grid.previous[number]) for number, _ in rows]
        broken = {names[i] for each in verdicts for i in np.flatnonzero(~each.finite)}
        table = torch.tensor(levels, dtype=torch.long).reshape(-1, 2)
        whole = Steps(
            ids=tuple(f"{names[i]} step {number}" for number, i in rows),
            judged=tuple(self._judgement(names[i], number) for number, i in rows),
            noisy=_cat([each.noisy for each in found]),
            taken=_cat([each.taken for each in found]),  # pyright: ignore[reportArgumentType]
            level=table[:, 0],
            previous=table[:, 1],
            told=this.told,
            prompt=tuple(i for _, i in rows),
            agreement=torch.ones(len(rows)),
            weight=self._weights([number for number, _ in rows]),
            refused=dict.fromkeys(sorted(broken), "a score is not finite"),
        )
        return whole.rows(self._visited(this, rows))

    def _judgement(self, name: str, number: int) -> str:
        """What labels a row: the finished picture, or the step itself."""
        return {"final": name, "steps": f"{name} step {number}"}[self._pen.settings.labels]

    def _weights(self, numbers: Sequence[int]) -> Tensor | None:
        """How much each row counts."""
        if self._pen.settings.weights == "uniform":
            return None
        path, trained = self._pen.backbone.path, list(trained_steps(self._pen))
        calm = 1 / sensitivity(path, self._pen.grid, self._pen.settings.eta)
        # A mean of 1 over the trained steps keeps the learning rate's meaning.
        return (calm / calm[trained].mean())[list(numbers)].float()

    def _visited(self, this: Round, rows: Sequence[tuple[int, int]]) -> list[int]:
        """The rows that are trained on now."""
        most = self._pen.settings.visits
        if most is None:
            return list(range(len(rows)))
        found: list[int] = []
        for prompt, key in enumerate(this.keys):
            mine = [row for row, (_, i) in enumerate(rows) if i == prompt]
            order = self._pen.streams("rollout visits", *key).permutation(len(mine))
            found += [mine[place] for place in order[:most]]
        return sorted(found)


def _cat(parts: Sequence[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    """Side by side tensors of several steps, one after another."""
    return tuple(torch.cat(side) for side in zip(*parts, strict=True))


def _numbers(verdicts: Sequence[Verdicts]) -> dict[str, Any]:
    """What the log says of a round."""
    clear = np.concatenate([each.clear for each in verdicts])
    scores = np.concatenate([each.scores for each in verdicts])
    finite = scores[np.isfinite(scores).all(1)]
    if not len(finite):
        return {"kept": float(clear.mean()), "score": None, "score_range": None}
    return {
        "kept": float(clear.mean()),
        "score": float(finite.mean()),
        "score_range": float(np.ptp(finite, axis=1).mean()),
    }


def _full(pen: Pen) -> HealthStop:
    at_once = pen.settings.at_once
    return HealthStop(
        got=f"not enough memory to draw with rollout.at_once={at_once or 'none'}",
        need="more memory, or fewer states at once",
        fix=f"Resume with --rollout.at_once {max((at_once or 8) // 2, 1)}.",
    )
