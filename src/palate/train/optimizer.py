"""AdamW whose state is named, ready before the first step, and saved as plain tensors.

The state of every weight exists from the start: an optimizer that allocates lazily can run out
of memory in the middle of its first update and leave half the weights moved.
"""

import math
from collections.abc import Mapping
from typing import final

import torch
from torch import Tensor, nn

from palate.core.problems import StateError, require
from palate.train.groups import Plan

PARTS = ("exp_avg", "exp_avg_sq", "step")


def learning_rate(plan: Plan, step: int) -> float:
    """The learning rate of a step, counted from 0: a pure function, with nothing to save."""
    if step < plan.warmup_steps:
        return plan.learning_rate * (step + 1) / plan.warmup_steps
    done = (step - plan.warmup_steps) / max(1, plan.steps - plan.warmup_steps)
    shapes = {
        "constant": 1.0,
        "linear": 1.0 - done,
        "cosine": 0.5 * (1.0 + math.cos(math.pi * done)),
    }
    return plan.learning_rate * shapes[plan.schedule]


@final
class Optimizer:
    """AdamW over named weights.

    Attributes:
        weights: The weights it moves, by name.
    """

    def __init__(self, weights: Mapping[str, nn.Parameter], plan: Plan) -> None:
        """Prepare the state of every weight."""
        require(
            bool(weights),
            got="a model without weights to train",
            need="at least one",
            fix="Open the model for training.",
        )
        self.weights = dict(weights)
        self._plan = plan
        on_gpu = next(iter(self.weights.values())).device.type == "cuda"
        self._adamw = torch.optim.AdamW(
            list(self.weights.values()),
            lr=plan.learning_rate,
            betas=plan.betas,
            eps=plan.epsilon,
            weight_decay=plan.weight_decay,
            fused=True if on_gpu else None,
        )
        for weight in self.weights.values():
            self._adamw.state[weight] = {
                "step": torch.zeros((), device=weight.device if on_gpu else "cpu"),
                "exp_avg": torch.zeros_like(weight),
                "exp_avg_sq": torch.zeros_like(weight),
            }

    @property
    def inner(self) -> torch.optim.Optimizer:
        """What a gradient scaler steps."""
        return self._adamw

    @property
    def pushed(self) -> bool:
        """Whether any weight has a gradient."""
        return any(weight.grad is not None for weight in self.weights.values())

    def set_rate(self, step: int) -> float:
        """Set, and return, the learning rate of a step."""
        rate = learning_rate(self._plan, step)
        for group in self._adamw.param_groups:
            group["lr"] = rate
        return rate

    def clear(self) -> None:
        """Forget all gradients."""
        self._adamw.zero_grad(set_to_none=True)

    def clip(self) -> float:
        """Limit the global gradient norm; returns what it was before. May be NaN or infinite."""
        norm = nn.utils.clip_grad_norm_(list(self.weights.values()), self._plan.clip_norm)
        return float(norm)

    def state(self) -> dict[str, Tensor]:
        """The state as named tensors."""
        return {
            f"{name}/{part}": self._adamw.state[weight][part]
            for name, weight in self.weights.items()
            for part in PARTS
        }

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Put a saved state back.

        Raises:
            StateError: when it belongs to other weights.
        """
        mine = self.state()
        odd = sorted(set(mine) ^ set(tensors))
        odd += [n for n in set(mine) & set(tensors) if mine[n].shape != tensors[n].shape]
        require(
            not odd,
            got=f"optimizer state that differs at {', '.join(odd[:3])}",
            need="the state of the same weights",
            fix="Resume with the model and adapter the run was started with.",
            kind=StateError,
        )
        for name, tensor in mine.items():
            tensor.copy_(tensors[name])
