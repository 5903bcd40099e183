"""Weights that learn and can be interrupted: AdamW, a moving average, and a checkpoint.

Read next: `pretraining.py`, which tells it what to learn.
"""

import copy
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor, nn

from palate.core.files import load_weights, save_weights


@final
class Record:
    """Appends one JSON line per entry."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, **entry: Any) -> None:
        """Append the entry, floats rounded to six digits."""
        rounded = {k: round(v, 6) if isinstance(v, float) else v for k, v in entry.items()}
        with self.path.open("a") as lines:
            lines.write(json.dumps(rounded) + "\n")


@final
class Learner:
    """Weights with AdamW, warm-up, cosine decay, clipping and a moving average; resumable."""

    def __init__(
        self,
        modules: dict[str, nn.Module],
        *,
        steps: int,
        rate: float,
        decay: float,
        file: Path,
        checkpoint_seconds: float,
    ) -> None:
        self.modules, self.steps, self.rate, self.decay = modules, steps, rate, decay
        self.file, self.checkpoint_seconds = file, checkpoint_seconds
        self.average = {name: copy.deepcopy(module) for name, module in modules.items()}
        self.weights = [weight for module in modules.values() for weight in module.parameters()]
        self.optimiser = torch.optim.AdamW(
            self.weights, lr=rate, betas=(0.9, 0.99), weight_decay=0.01
        )
        self.step, self.seconds = 0, 0.0
        self._started = self._saved = time.monotonic()
        if file.is_file():
            self._load()

    def remaining(self) -> Iterator[int]:
        """The steps still to do; keeps the clock and the checkpoint."""
        while self.step < self.steps:
            yield self.step
            self.step += 1
            now = time.monotonic()
            if now - self._saved > self.checkpoint_seconds or self.step == self.steps:
                self._save()
                self._saved = now

    def elapsed(self) -> float:
        """Seconds of training, over all interruptions."""
        return self.seconds + time.monotonic() - self._started

    def descend(self, loss: Tensor) -> None:
        """One optimiser step down the gradient of the loss."""
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.weights, 1.0)
        warm = min(1.0, (self.step + 1) / 100)
        cosine = 0.5 * (1.0 + math.cos(math.pi * self.step / self.steps))
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate * warm * (0.02 + 0.98 * cosine)
        self.optimiser.step()
        # A young average follows quickly, else it would remember the random start.
        keep = min(self.decay, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for name, module in self.modules.items():
                pairs = zip(self.average[name].parameters(), module.parameters(), strict=True)
                for slow, fast in pairs:
                    slow.lerp_(fast, 1.0 - keep)

    def adopt(self) -> None:
        """Put the moving average into the modules themselves."""
        for name, module in self.modules.items():
            module.load_state_dict(self.average[name].state_dict())
            module.eval()

    def _save(self) -> None:
        """Write everything as tensors, because only safetensors is opened in this project."""
        state = {
            "step": torch.tensor(self.step),
            "seconds": torch.tensor(self.elapsed(), dtype=torch.float64),
        }
        for name in self.modules:
            for key, value in self.modules[name].state_dict().items():
                state[f"weights/{name}/{key}"] = value
            for key, value in self.average[name].state_dict().items():
                state[f"average/{name}/{key}"] = value
        for number, weight in enumerate(self.weights):
            for key, value in self.optimiser.state[weight].items():
                state[f"optimiser/{number}/{key}"] = value
        save_weights(self.file, state)

    def _load(self) -> None:
        state = load_weights(self.file)
        self.step, self.seconds = int(state["step"]), float(state["seconds"])
        for name in self.modules:
            self.modules[name].load_state_dict(_under(f"weights/{name}/", state))
            self.average[name].load_state_dict(_under(f"average/{name}/", state))
        for number, weight in enumerate(self.weights):
            self.optimiser.state[weight] = _under(f"optimiser/{number}/", state)


def _under(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The entries whose names begin with the prefix, without it."""
    return {key.removeprefix(prefix): t for key, t in state.items() if key.startswith(prefix)}
