"""Who leads pictures back to noise: the policy as it is now, or the reference, once for all.

What the reference does never changes, so its ways are kept on a rack beside the latents, in
float32 to the last bit, and a run that stopped, or another run on the same pictures, reads them
again. A way is named by what it started from: the latents' bits and the condition's.

Read next: `inverted.py`, which makes a question of them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Protocol, final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from palate.backbones.backbone import Backbone, Condition
from palate.backbones.inversion import Inversion, invert
from palate.core.files import digest_tensors
from palate.train.rack import Rack

# Raise it when ways are made differently: it is part of the rack's key.
PREPARATION = 1
# Every call has exactly so many rows, the last one repeated, so that no way depends on which
# others were missing when it was made.
WAYS_AT_ONCE = 4
ROOM = "inversions"
_KEPT = ("states", "predicted")
_ENCODERS = ("vae", "text_encoder", "tokenizer")


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Route:
    """Where ways lead, whoever leads.

    Attributes:
        grid: Levels in ascending order.
        guidance: Strength of guidance.
        empty: What the empty prompt says, one row; None where there is no guidance.
        renoise: Whether each move is corrected once.
    """

    grid: tuple[int, ...]
    guidance: float = 1.0
    empty: Condition | None = None
    renoise: bool = False


class Leader(Protocol):
    """Leads pictures back to noise."""

    def __call__(
        self,
        clean: Float[Tensor, " b c h w"],
        condition: Condition,
        moves: Int[Tensor, " b"],
        noise: Callable[[int], Tensor] | None,
    ) -> Inversion:
        """The way of each picture, at least as many moves as asked for.

        `noise` gives the numbers that are added after each move, if any; see `invert`.
        """
        ...


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Led:
    """By the backbone's present voice, anew each time.

    Attributes:
        backbone: The model.
        route: Where ways lead.
    """

    backbone: Backbone
    route: Route

    def __call__(
        self,
        clean: Float[Tensor, " b c h w"],
        condition: Condition,
        moves: Int[Tensor, " b"],
        noise: Callable[[int], Tensor] | None,
    ) -> Inversion:
        """Each picture as far as asked for."""
        return invert(
            self.backbone,
            clean,
            condition,
            self.route.empty,
            self.route.grid,
            guidance=self.route.guidance,
            renoise=self.route.renoise,
            noise=noise,
            upto=moves,
        )


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """By the reference, and kept on disk.

    Attributes:
        backbone: The model.
        route: Where ways lead.
        rack: Where they are kept.
        tell: Hears of waiting for another process that writes there.
    """

    backbone: Backbone
    route: Route
    rack: Rack
    tell: Callable[[str], None]

    def __call__(
        self,
        clean: Float[Tensor, " b c h w"],
        condition: Condition,
        moves: Int[Tensor, " b"],
        noise: Callable[[int], Tensor] | None,
    ) -> Inversion:
        """The whole way of each picture; those that are not there yet are made.

        A way that is not finite comes back as numbers that are not, so that the step's own guard
        sets its pair aside.
        """
        # The reference knows no users, so that its way is the same for everybody.
        condition = condition.with_user(None)
        names = way_names(clean, condition)
        if self.rack.missing(names):
            with self.rack.writing(self.tell):
                # Whoever was waited for may have made them.
                self._make(self.rack.missing(names), names, clean, condition)
        found = self._read(names, clean)
        first = clean.to(found["states"])[:, None]
        return Inversion(
            states=torch.cat([first, found["states"]], 1),
            predicted=found["predicted"],
            levels=self.route.grid,
        )

    def _make(
        self, missing: Sequence[str], names: Sequence[str], clean: Tensor, condition: Condition
    ) -> None:
        """Put the missing ways on the rack, as one shard."""
        made: dict[str, list[Tensor]] = {name: [] for name in _KEPT}
        places = [names.index(name) for name in missing]
        for start in range(0, len(places), WAYS_AT_ONCE):
            part = places[start : start + WAYS_AT_ONCE]
            rows = [*part, *[part[-1]] * (WAYS_AT_ONCE - len(part))]
            with self.backbone.as_reference():
                way = Led(backbone=self.backbone, route=self.route)(
                    clean[rows],
                    condition.rows(rows),
                    torch.full((WAYS_AT_ONCE,), len(self.route.grid)),
                    None,
                )
            made["states"].append(way.states[: len(part), 1:].cpu())
            made["predicted"].append(way.predicted[: len(part)].cpu())
        whole = {name: torch.cat(parts) for name, parts in made.items()}
        sound = torch.stack([t.isfinite().flatten(1).all(1) for t in whole.values()]).all(0)
        good = [row for row, ok in enumerate(sound.tolist()) if ok]
        kept = [missing[row] for row in good]
        lost = {name: "not finite" for name in missing if name not in kept}
        self.rack.add(kept, {name: t[good] for name, t in whole.items()}, lost)

    def _read(self, names: Sequence[str], clean: Tensor) -> Mapping[str, Tensor]:
        """The ways of these names, in their order."""
        known = [i for i, name in enumerate(names) if name not in self.rack.refused]
        shape = (len(names), len(self.route.grid), *clean.shape[1:])
        wide = torch.promote_types(clean.dtype, torch.float32)
        found = {name: torch.full(shape, float("nan"), dtype=wide) for name in _KEPT}
        if known:
            for name, rows in self.rack.rows([names[i] for i in known]).items():
                found[name][known] = rows.to(wide)
        return found


def way_names(clean: Float[Tensor, " b c h w"], condition: Condition) -> list[str]:
    """The name of each picture's way: a digest of its latents and of what it is conditioned on."""
    return [
        digest_tensors(
            {"clean": clean[row], **{name: t[row] for name, t in condition.tensors.items()}}
        )
        for row in range(len(clean))
    ]


def open_rack(folder: Path, backbone: Backbone, route: Route) -> Rack:
    """The rack of the ways that this reference leads along this route."""
    return Rack(folder / ROOM, way_factors(backbone, route))


def way_factors(backbone: Backbone, route: Route) -> dict[str, Any]:
    """Everything the reference's ways depend on besides where they start."""
    path = backbone.path
    networks = {
        name: digest for name, digest in backbone.digests.items() if not name.startswith(_ENCODERS)
    }
    return {
        **networks,
        "weights on top": backbone.applied,
        "levels": digest_tensors({"alpha": path.alpha, "sigma": path.sigma}),
        "prediction": path.prediction,
        "grid": list(route.grid),
        "guidance": route.guidance,
        "empty prompt": None if route.empty is None else digest_tensors(route.empty.tensors),
        "renoise": route.renoise,
        "arithmetic": backbone.precision,
        "rows at once": WAYS_AT_ONCE,
        "device": backbone.device.type,
        "preparation": PREPARATION,
    }


def way_bytes(shape: Sequence[int], moves: int) -> int:
    """Disk of one picture's way: after each move the state, and the noise it was made with."""
    return len(_KEPT) * moves * prod(shape) * torch.finfo(torch.float32).bits // 8
