"""Evidence from pictures led back to noise: what policy and reference say on the way there.

Diffusion-DPO noises a picture at random and hopes that the model might have come that way.
Inversion-DPO, InPO and SmPO follow the deterministic sampler backwards instead. They differ in who
leads, how far, what the network should have said, and how much each level counts; all four are
settings here, and the objective does not know them.

Judged is x after a move, under the label of the level it has reached: Inversion-DPO's figure has
it so. Its released script asks at the state before the move, where the noise of the move *is* the
reference's answer, so that no target but that answer would be left.

Read next: `visited.py`, the question; `ways.py`, who leads; `targets.py`, what to aim at.
"""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path as Folder
from typing import final

import torch
from jaxtyping import Int
from torch import Tensor

from palate.backbones.backbone import Backbone, Condition
from palate.backbones.inversion import NOISE_SHARE, Inversion, inversion_grid
from palate.core.path import Path
from palate.core.problems import StateError, require
from palate.core.streams import Streams
from palate.train.batch import Batch
from palate.train.cache import Cache, empty_prompt, views
from palate.train.groups import NoiseSettings
from palate.train.log import Event
from palate.train.run import Run
from palate.train.sources import InversionSettings
from palate.train.targets import TARGETS, WEIGHTS
from palate.train.visited import Visited
from palate.train.ways import Kept, Leader, Led, Route, open_rack, way_bytes

Tell = Callable[[Event], None]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Inverted:
    """Leads both pictures of a pair back to noise, and visits some levels on the way.

    Attributes:
        streams: The run's random streams.
        path: The model's noise levels.
        settings: How to lead, what to aim at, and what counts.
        noise: The part of the levels that may be visited.
        grid: The levels ways lead over, from `grid_of`.
        leader: Who leads.
        empty: What the empty prompt says; None where there is no guidance.
    """

    streams: Streams
    path: Path
    settings: InversionSettings
    noise: NoiseSettings
    grid: tuple[int, ...]
    leader: Leader
    empty: Condition | None = None

    def __call__(self, batch: Batch) -> Visited:
        """The states to judge of each pair, by its name and visit, and by who leads."""
        visited = self._visited(batch)
        clean = torch.cat([batch.chosen, batch.rejected])
        way = self.leader(
            clean,
            Condition.concatenate(batch.conditions),
            (visited.max(1).values + 1).repeat(2),
            self._jitter(batch) if self.settings.jitter > 0 else None,
        )
        levels = torch.tensor(self.grid)[visited]
        noisy, target = self._states(way, visited.repeat(2, 1), clean)
        weight = WEIGHTS[self.settings.weight](self.path, self.grid)[visited]
        count = len(batch)
        return Visited(
            noisy=(noisy[:count], noisy[count:]),
            target=None if target is None else (target[:count], target[count:]),
            conditions=batch.conditions,
            levels=levels,
            weight=weight.to(noisy.dtype),
            guidance=self.settings.guidance,
            empty=self.empty,
        )

    def _visited(self, batch: Batch) -> Int[Tensor, " b k"]:
        """Places in the grid, ascending; the same for both pictures, to compare them there."""
        places = places_of(self.path, self.grid, self.noise)
        many = self.settings.visits or len(places)
        drawn = [
            self.streams("inversion visits", *key).permutation(len(places))[:many]
            for key in zip(batch.visits, batch.ids, strict=True)
        ]
        return torch.tensor([sorted(places[i] for i in each) for each in drawn])

    def _states(
        self, way: Inversion, places: Int[Tensor, " b k"], clean: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """The states at these places of the grid, and what to predict there."""
        rows = torch.arange(len(places))[:, None]
        noisy = way.states[rows.to(way.states.device), (places + 1).to(way.states.device)]
        used = way.predicted[rows.to(way.predicted.device), places.to(way.predicted.device)]
        shape = tuple(noisy.shape)
        starts = clean.to(noisy)[:, None].expand(shape)
        level = torch.tensor(self.grid)[places].flatten().to(noisy.device)
        flat = (noisy.flatten(0, 1), used.flatten(0, 1), starts.flatten(0, 1))
        target = TARGETS[self.settings.target](self.path, *flat, level)
        return noisy, None if target is None else target.reshape(shape)

    def _jitter(self, batch: Batch) -> Callable[[int], Tensor]:
        """Noise to add after each move, for both sides."""
        shape, scale = tuple(batch.chosen.shape[1:]), self.settings.jitter / NOISE_SHARE
        # One noise for both pictures, unless asked otherwise; see `Fresh`.
        purposes = ("inversion noise", "inversion noise" if self.noise.shared else "other noise up")

        def draw(move: int) -> Tensor:
            keys = list(zip(batch.visits, batch.ids, strict=True))
            drawn = [
                self.streams(purpose, *key, move).normal(shape)
                for purpose in purposes
                for key in keys
            ]
            return scale * torch.stack(drawn)

        return draw


def grid_of(path: Path, settings: InversionSettings, noise: NoiseSettings) -> tuple[int, ...]:
    """The levels ways lead over: no further than what may be visited.

    Raises:
        SettingError: when so many steps do not fit, or none of them may be visited.
    """
    grid = inversion_grid(path.levels, settings.steps, settings.first)
    places = places_of(path, grid, noise)
    require(
        settings.visits is None or settings.visits <= len(places),
        got=f"inversion.visits={settings.visits} with {len(places)} levels that may be visited",
        need="at most as many visits as levels",
        fix=f"Use inversion.visits={len(places)}, or a wider part of the noise.",
    )
    return grid[: places[-1] + 1]


def places_of(path: Path, grid: Sequence[int], noise: NoiseSettings) -> list[int]:
    """The places in a grid whose levels may be visited.

    Raises:
        SettingError: when there is none.
    """
    low, high = noise.lowest * path.levels, noise.highest * path.levels
    found = [place for place, level in enumerate(grid) if low <= level < high]
    require(
        bool(found),
        got=f"noise.lowest={noise.lowest} and noise.highest={noise.highest}",
        need=f"one of the {len(grid)} levels visited in between",
        fix="Use more inversion.steps, or a wider part of the noise.",
    )
    return found


def open_inverted(
    run: Run, backbone: Backbone, cache: Cache, folder: Folder, pairs: int, tell: Tell
) -> Inverted:
    """The source of a run with the group `inversion`; says what it will cost.

    Args:
        run: The run's settings.
        backbone: The model.
        cache: Has the embedding of the empty prompt.
        folder: Where caches are.
        pairs: How many pairs are trained on.
        tell: Hears events.

    Raises:
        SettingError: when the steps do not fit the model's noise levels.
        HealthStop: when guidance is asked for and the empty prompt has no sound embedding.
    """
    settings = run.inversion or InversionSettings()
    grid = grid_of(backbone.path, settings, run.noise)
    empty = empty_prompt(cache, "inversion.guidance") if settings.guidance > 1 else None
    route = Route(grid=grid, guidance=settings.guidance, empty=empty, renoise=settings.renoise)
    visits = settings.visits or len(places_of(backbone.path, grid, run.noise))
    asked = visits * (1 if empty is None else 2)
    much = "as much memory as" if asked == 1 else f"about {asked} times the memory of"
    text = f"Inversion over {len(grid)} levels by the {settings.by}: a pair takes {much} one "
    tell(Event(kind="open", text=f"{text}that is noised."))
    leaders: dict[str, Callable[[], Leader]] = {
        "policy": lambda: Led(backbone=backbone, route=route),
        "reference": lambda: _kept(run, backbone, cache, folder, pairs, route, tell),
    }
    return Inverted(
        streams=Streams(run.seed),
        path=backbone.path,
        settings=settings,
        noise=run.noise,
        grid=grid,
        leader=leaders[settings.by](),
        empty=empty,
    )


def _kept(
    run: Run,
    backbone: Backbone,
    cache: Cache,
    folder: Folder,
    pairs: int,
    route: Route,
    tell: Tell,
) -> Kept:
    """The reference as leader, after saying how much disk its ways take at most."""
    rack = open_rack(folder, backbone, route)
    pictures = 2 * min(pairs * len(views(run.pictures)), run.plan.steps * run.plan.batch)
    size = way_bytes(backbone.latent_shape(cache.side, cache.side), len(route.grid))
    free = shutil.disk_usage(rack.folder).free
    missing = max(pictures - len(rack), 0) * size
    text = f"inversions: {len(rack)} there; {pictures} of {size / 1e6:.3g} MB each at most, "
    tell(Event(kind="cache", text=f"{text}{missing / 1e6:.3g} MB more on disk"))
    require(
        missing <= free,
        got=f"{free / 1e6:.0f} MB free at {folder}",
        need=f"up to {missing / 1e6:.0f} MB, to keep the reference's ways back to noise",
        fix="Use another cache folder, fewer inversion.steps, or inversion.by=policy.",
        kind=StateError,
    )
    return Kept(
        backbone=backbone,
        route=route,
        rack=rack,
        tell=lambda text: tell(Event(kind="cache", text=text)),
    )
