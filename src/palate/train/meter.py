"""What training itself shows: the numbers of one step, and of the steps since the last check."""

from typing import Any, final

import numpy as np
from torch import Tensor

from palate.core.stats import outcomes, wilson
from palate.train.step import Outcome

MEANS = ("loss", "margin", "chosen_error", "rejected_error", "chosen_gain", "rejected_gain")
KNOWN = (*MEANS, "logit", "chosen_reference", "rejected_reference")


@final
class Meter:
    """What training itself showed since the last check."""

    def __init__(self) -> None:
        """Start empty."""
        self.wins, self.trials = 0.0, 0
        self.norms: list[float] = []

    def add(self, outcome: Outcome) -> None:
        """Note one step."""
        margin = outcome.measures.get("margin")
        if margin is not None and outcome.skipped is None:
            self.wins += float(outcomes(margin.tolist(), [0.0] * len(margin)).sum())
            self.trials += len(margin)
        if outcome.norm is not None:
            self.norms.append(outcome.norm)

    def read(self) -> dict[str, Any]:
        """The numbers, after which it starts again."""
        accuracy = wilson(self.wins, self.trials).asdict() if self.trials else None
        norm = float(np.median(self.norms)) if self.norms else None
        self.wins, self.trials, self.norms = 0.0, 0, []
        return {"training_accuracy": accuracy, "gradient_norm": norm}

    def state(self) -> dict[str, Any]:
        """What a checkpoint has to hold."""
        return {"wins": self.wins, "trials": self.trials, "norms": list(self.norms)}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on where a checkpoint stood."""
        self.wins, self.trials = float(state["wins"]), int(state["trials"])
        self.norms = list(state["norms"])


def step_row(outcome: Outcome, step: int, limit: float) -> dict[str, Any]:
    """One row of the log: means over the pairs of a step, None where something does not apply."""
    found = {name: values.numpy() for name, values in outcome.measures.items()}
    row: dict[str, Any] = {"step": step}
    row |= {name: float(found[name].mean()) if name in found else None for name in MEANS}
    margin = found.get("margin")
    quantiles = [None] * 3 if margin is None else np.quantile(margin, [0.05, 0.5, 0.95]).tolist()
    row |= dict(zip(("margin_p05", "margin_p50", "margin_p95"), quantiles, strict=True))
    wins = None if margin is None else float(outcomes(margin, np.zeros_like(margin)).mean())
    return {
        **row,
        "accuracy": wins,
        "saturated": saturated(found.get("logit"), limit),
        "gradient_norm": outcome.norm,
        "learning_rate": outcome.rate,
        "pairs": outcome.pairs,
        "skipped": outcome.skipped,
        "extras": {name: float(v.mean()) for name, v in found.items() if name not in KNOWN},
    }


def saturated(logit: Tensor | np.ndarray | None, limit: float) -> float | None:
    """Share of pairs whose logit is beyond the limit, or None where there is no logit."""
    if logit is None:
        return None
    return float(np.mean(np.abs(np.asarray(logit)) > limit))
