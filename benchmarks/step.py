"""One Diffusion-DPO LoRA step, the published scripts' way and ours, on the same model and pairs.

    python benchmarks/step.py                     # a model of the shipped size, random weights
    python benchmarks/step.py --model FOLDER --pairs 1

Their way: autoencoder and text encoder in every step, adapters switched by walking all modules.
Ours: latents and embeddings kept from before, adapters switched where they are. Both compute the
same loss with the same objective, and the steps take turns, so that a busy machine slows both.
What is printed is the time of each and their ratio, in this run on this machine; ours leaves out
the one-time encoding, which is printed apart.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import torch
from torch import Tensor

from palate.backbones import Adapter, Condition, load, tiny
from palate.backbones.latent import LatentDiffusion
from palate.core.contrast import Contrast, Denoised
from palate.core.streams import Streams
from palate.objectives.dpo import DPO

CAPTIONS = ["a small red circle", "a large blue square left of a green cross"]


class Bench:
    """A model, some pairs of random pictures, and the two ways of taking a step."""

    def __init__(self, folder: Path, pairs: int, device: str) -> None:
        model = load(folder, adapter=Adapter(), train=True, device=device)
        assert isinstance(model, LatentDiffusion)
        self.model = model
        side = self.model.resolution
        draw = Streams(0)("pictures").generator()
        self.pictures = torch.randint(
            0, 256, (2 * pairs, side, side, 3), generator=draw, dtype=torch.uint8
        ).to(device)
        self.prompts = [CAPTIONS[row % len(CAPTIONS)] for row in range(pairs)]
        self.optimizer = torch.optim.AdamW(self.model.trainable().values(), lr=1e-4)

    def settled(self, device: str) -> None:
        """Wait for the accelerator, so that the clock sees its work."""
        if device.startswith("cuda"):
            torch.cuda.synchronize()

    def latents(self) -> Tensor:
        """Chosen pictures' latents, then the rejected ones'."""
        mean, spread = self.model.encode(self.pictures)
        noise = Streams(0)("posterior").normal(tuple(mean.shape)).to(mean)
        return mean + spread * noise

    def step(
        self,
        clean: Tensor,
        condition: Condition,
        reference: Callable[[], AbstractContextManager[None]],
        number: int,
    ) -> float:
        """Forward, reference, loss, backward, optimizer; returns the loss."""
        pairs, path = len(clean) // 2, self.model.path
        noise = Streams(0)("noise", number).normal(tuple(clean[:pairs].shape)).to(clean)
        draw = Streams(0)("level", number).generator()
        level = torch.randint(path.levels, (pairs,), generator=draw).to(clean.device)
        noise, level, both = noise.repeat(2, 1, 1, 1), level.repeat(2), condition.repeat(2)
        noisy, target = path.noisy(clean, noise, level), path.target(clean, noise, level)
        predicted = self.model.predict(noisy, level, both)
        with torch.no_grad(), reference():
            believed = self.model.predict(noisy, level, both)
        sides = [
            Denoised(prediction=p, target=t, reference=r)
            for p, t, r in zip(predicted.chunk(2), target.chunk(2), believed.chunk(2), strict=True)
        ]
        agreement = torch.ones(pairs, device=clean.device)
        pairs_seen = Contrast(chosen=sides[0], rejected=sides[1], agreement=agreement)
        loss = DPO(beta=2000.0)(pairs_seen).loss.mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return loss.item()

    @contextmanager
    def walked(self) -> Iterator[None]:
        """The reference by the library's own switch."""
        network = self.model._policy.network  # the library's switch is on the network itself
        network.disable_adapters()
        yield
        network.enable_adapters()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, help="a pipeline folder; default: a small random one")
    parser.add_argument("--pairs", type=int, default=4, help="pairs in a step")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--device", default="cpu")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as space:
        folder = asked.model or Path(space) / "model"
        if asked.model is None:
            tiny.build(CAPTIONS * 2).save_pretrained(folder)
        compare(Bench(folder, asked.pairs, asked.device), asked.repeats, asked.device)


def compare(bench: Bench, repeats: int, device: str) -> None:
    """Take turns, and print both times."""
    started = time.perf_counter()
    kept = bench.latents(), bench.model.embed(bench.prompts)
    bench.settled(device)
    once = time.perf_counter() - started
    ways: dict[str, Callable[[int], float]] = {
        "theirs": lambda number: bench.step(
            bench.latents(), bench.model.embed(bench.prompts), bench.walked, number
        ),
        "ours": lambda number: bench.step(*kept, bench.model.as_reference, number),
    }
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(repeats + 1):
        for name, take in ways.items():
            started = time.perf_counter()
            take(number)
            bench.settled(device)
            taken[name].append(time.perf_counter() - started)
    # The first of each pays for warming up.
    best = {name: (statistics.median(t[1:]), min(t[1:])) for name, t in taken.items()}
    for name, (median, least) in best.items():
        print(f"{name:7} median {median * 1e3:8.1f} ms   least {least * 1e3:8.1f} ms")
    ratios = [best["theirs"][i] / best["ours"][i] for i in (0, 1)]
    print(f"theirs / ours: {ratios[0]:.2f} (median), {ratios[1]:.2f} (least), n = {repeats}")
    print(
        f"encoding once: {once * 1e3:.1f} ms for {len(bench.pictures)} pictures and their prompts"
    )


if __name__ == "__main__":
    main()
