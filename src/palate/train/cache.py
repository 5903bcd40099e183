"""Latents and prompt embeddings, computed once: the autoencoder never runs during training.

For each picture the mean and spread of its latents are kept, so that every visit can draw fresh
latents, with its size and crop; for each prompt its embedding. Rows that are not finite or not
plausible are refused here, before they can reach a weight, and the pairs that need them are set
aside by name.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from palate.backbones.backbone import Backbone, Condition, Sizes
from palate.core.files import digest_json
from palate.core.problems import HealthStop, require
from palate.data.pairs import Pair
from palate.train.groups import Pictures
from palate.train.rack import ROWS_PER_SHARD, Rack

# Raise it when pictures or prompts are prepared differently: it is part of every key.
PREPARATION = 2
# Every call has exactly so many rows, the last ones repeated: another number of rows may change
# the last digits, and then a row would depend on what was missing when it was made.
ROWS_AT_ONCE = 8
# Scaled latents of real autoencoders stay within ±30; far beyond is an overflow, not a picture.
LARGEST_LATENT = 1000.0
MIDDLE = 1
WINDOWS = 3
ReadPicture = Callable[[str], NDArray[np.uint8]]
Tell = Callable[[str], None]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """How a picture is looked at: which window of it, and whether in the mirror.

    Attributes:
        window: 0, 1 or 2: the first, middle or last square along the longer side.
        mirrored: Left and right exchanged.
    """

    window: int = MIDDLE
    mirrored: bool = False

    def name(self, picture: str) -> str:
        """The name of this view of a picture on its rack."""
        return f"{picture}/{self.window}{'m' if self.mirrored else ''}"


def views(pictures: Pictures) -> list[View]:
    """Every view that training may ask for under these settings."""
    windows = range(WINDOWS) if pictures.crop == "random" else [MIDDLE]
    sides = [False, True] if pictures.flip else [False]
    return [View(window=window, mirrored=side) for window in windows for side in sides]


def cut(picture: NDArray[np.uint8], view: View, side: int) -> NDArray[np.uint8]:
    """A square of the given side: short side resized (Lanczos), window cut, mirrored if asked."""
    size, (left, top) = _window(picture.shape[0], picture.shape[1], view, side)
    image = Image.fromarray(picture)
    if image.size != size:
        image = image.resize(size, Image.Resampling.LANCZOS)
    square = np.asarray(image.crop((left, top, left + side, top + side)))
    return np.ascontiguousarray(square[:, ::-1]) if view.mirrored else square


def sizes(height: int, width: int, view: View, side: int) -> Sizes:
    """What `cut` does to a picture of a height and width in pixels.

    A mirrored view counts as cut from a picture that was mirrored before.
    """
    resized, (left, top) = _window(height, width, view, side)
    from_left = resized[0] - side - left if view.mirrored else left
    return Sizes(original=(height, width), crop=(top, from_left), target=(side, side))


def _window(
    height: int, width: int, view: View, side: int
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Width and height of the resized picture, and left and top of the window in it."""
    scale = side / min(height, width)
    size = (max(side, round(width * scale)), max(side, round(height * scale)))
    share = view.window / (WINDOWS - 1)
    return size, (round((size[0] - side) * share), round((size[1] - side) * share))


@final
class Cache:
    """Everything training reads of pictures and prompts.

    Attributes:
        latents: Rows `mean`, `std` and `sizes` per view of a picture.
        prompts: Rows of embeddings per prompt.
        cut: How many of the prompts asked for are longer than the model reads.
        used: Digest of all rows asked for; None before `fill`.
    """

    def __init__(self, folder: Path, backbone: Backbone, side: int) -> None:
        """Open both racks for this model and resolution, checking digests.

        Raises:
            SettingError: when the side does not fit the autoencoder.
        """
        backbone.latent_shape(side, side)
        self.side = side
        self.cut = 0
        self.used: str | None = None
        self.latents = Rack(folder / "latents", latent_factors(backbone, side))
        self.prompts = Rack(folder / "prompts", prompt_factors(backbone))

    def fill(
        self,
        backbone: Backbone,
        pairs: Iterable[Pair],
        pictures: Pictures,
        read: ReadPicture,
        tell: Tell,
        warn: Tell | None = None,
    ) -> None:
        """Compute what is missing for these pairs, and say what was reused and what was not.

        `warn` hears of prompts that are longer than the model reads; without it, `tell` does.
        """
        every = list(pairs)
        shown = {name for pair in every for name in (pair.chosen, pair.rejected)}
        names = {view.name(name): (name, view) for name in shown for view in views(pictures)}
        fill_rack(
            self.latents, names, tell, "latents",
            lambda part: _encode(backbone, [(read(p), v) for p, v in part], self.side),
        )  # fmt: skip
        self.used = self.latents.digest(sorted(names))
        self.fill_prompts(backbone, [pair.prompt for pair in every], tell, warn)

    def fill_prompts(
        self, backbone: Backbone, texts: Iterable[str], tell: Tell, warn: Tell | None = None
    ) -> None:
        """Compute what is missing for these prompts and the empty one; see `fill`."""
        every = set(texts)
        prompts = {prompt_name(text): text for text in ["", *every]}
        fill_rack(
            self.prompts, prompts, tell, "prompts",
            lambda part: dict(backbone.embed(list(part)).tensors),
        )  # fmt: skip
        self.used = digest_json([self.used, self.prompts.digest(sorted(prompts))])
        lengths, read_tokens = backbone.token_counts(list(prompts.values()))
        cut = sum(length > read_tokens for length in lengths)
        self.cut += cut
        if cut:
            text = f"{cut} of {len(every)} prompts are longer than {read_tokens} tokens"
            (warn or tell)(f"{text} and were cut.")

    def refusal(self, pair: Pair, pictures: Pictures) -> str | None:
        """Why a pair cannot be trained on, or None."""
        name = prompt_name(pair.prompt)
        if name in self.prompts.refused:
            return f"prompt embedding: {self.prompts.refused[name]}"
        for picture in (pair.chosen, pair.rejected):
            for view in views(pictures):
                reason = self.latents.refused.get(view.name(picture))
                if reason is not None:
                    return f"latents of picture {picture[:12]}: {reason}"
        return None

    def facts(self) -> dict[str, Any]:
        """What the rows depend on and how many there are, for the record."""
        return {
            "latents": {"rows": len(self.latents), **self.latents.factors},
            "prompts": {"rows": len(self.prompts), "cut": self.cut, **self.prompts.factors},
            "used": self.used,
        }


def prompt_name(text: str) -> str:
    """The name of a prompt on its rack. Long prompts are fine; so is the empty one."""
    return f"prompt:{text}"


def empty_prompt(cache: Cache, setting: str) -> Condition:
    """What the empty prompt says, for guidance of the strength that a setting has.

    Raises:
        HealthStop: when its embedding cannot be used.
    """
    name = prompt_name("")
    require(
        name not in cache.prompts.refused,
        got=f"guidance and an embedding of the empty prompt that cannot be used "
        f"({cache.prompts.refused.get(name)})",
        need="a text encoder that can embed the empty prompt",
        fix=f"Use {setting}=1, or mend the text encoder.",
        kind=HealthStop,
    )
    return Condition(cache.prompts.rows([name]))


def latent_factors(backbone: Backbone, side: int) -> dict[str, Any]:
    """Everything latents depend on besides the picture and how it is looked at."""
    return {
        "autoencoder": backbone.digests["vae"],
        "arithmetic": "fp32, no tf32",
        "rows at once": ROWS_AT_ONCE,
        "device": backbone.device.type,
        "resolution": side,
        "resize": "lanczos, short side",
        "windows": WINDOWS,
        "rows": "posterior mean and std, scaled; sizes",
        "preparation": PREPARATION,
    }


def prompt_factors(backbone: Backbone) -> dict[str, Any]:
    """Everything embeddings depend on besides the prompt."""
    parts = {
        name: digest
        for name, digest in backbone.digests.items()
        if name.startswith(("text_encoder", "tokenizer"))
    }
    return {
        **parts,
        # Whatever the network that is trained computes in.
        "arithmetic": "fp32, no tf32",
        "rows at once": ROWS_AT_ONCE,
        "device": backbone.device.type,
        "preparation": PREPARATION,
    }


def _encode(
    backbone: Backbone, seen: Sequence[tuple[NDArray[np.uint8], View]], side: int
) -> dict[str, Tensor]:
    squares = np.stack([cut(picture, view, side) for picture, view in seen])
    mean, std = backbone.encode(torch.from_numpy(squares))
    told = [sizes(picture.shape[0], picture.shape[1], view, side) for picture, view in seen]
    return {"mean": mean, "std": std, "sizes": torch.tensor([each.numbers for each in told])}


def fill_rack(
    rack: Rack,
    wanted: Mapping[str, Any],
    tell: Tell,
    what: str,
    make: Callable[[list[Any]], dict[str, Tensor]],
) -> None:
    """Make the missing rows of a rack, some at once; only one process does so at a time."""
    missing: list[str] = []
    tail = ""
    if rack.missing(list(wanted)):
        with rack.writing(tell):
            # Whoever was waited for may have made them.
            missing = rack.missing(list(wanted))
            tail = _origins(rack, missing)
            _make(rack, missing, wanted, tell, what, make)
    tell(f"{what}: {len(wanted) - len(missing)} reused{tail}")


def _make(
    rack: Rack,
    missing: Sequence[str],
    wanted: Mapping[str, Any],
    tell: Tell,
    what: str,
    make: Callable[[list[Any]], dict[str, Tensor]],
) -> None:
    """Make rows, a shard at a time."""
    for start in range(0, len(missing), ROWS_PER_SHARD):
        part = missing[start : start + ROWS_PER_SHARD]
        if len(missing) > ROWS_PER_SHARD:
            tell(f"{what}: {start} of {len(missing)} computed")
        rows: dict[str, list[Tensor]] = {}
        for first in range(0, len(part), ROWS_AT_ONCE):
            asked = [wanted[name] for name in part[first : first + ROWS_AT_ONCE]]
            made = make([*asked, *[asked[-1]] * (ROWS_AT_ONCE - len(asked))])
            for key, tensor in made.items():
                rows.setdefault(key, []).append(tensor[: len(asked)].detach().cpu())
        whole = {key: torch.cat(parts) for key, parts in rows.items()}
        good, refused = _judge(part, whole)
        index = torch.tensor(good, dtype=torch.long)
        rack.add([part[i] for i in good], {key: t[index] for key, t in whole.items()}, refused)


def _origins(rack: Rack, missing: Sequence[str]) -> str:
    """Why rows have to be made: damaged, made under other factors, or new."""
    lost = [name for name in missing if name in rack.damaged]
    rest = [name for name in missing if name not in rack.damaged]
    moved, why = rack.elsewhere(rest)
    new = len(rest) - moved
    word = "new, or lost with a damaged shard; rebuilt" if rack.unreadable else "new"
    counts = [
        (len(lost), "rebuilt (damaged)"),
        (moved, f"rebuilt ({why})"),
        (new, f"computed ({word})"),
    ]
    return "".join(f", {count} {how}" for count, how in counts if count)


def _judge(names: Sequence[str], rows: Mapping[str, Tensor]) -> tuple[list[int], dict[str, str]]:
    """Which rows may be used, and why the others may not."""
    good: list[int] = []
    refused: dict[str, str] = {}
    for i, name in enumerate(names):
        parts = [tensor[i] for tensor in rows.values() if tensor.is_floating_point()]
        if not all(bool(torch.isfinite(part).all()) for part in parts):
            refused[name] = "not finite"
        elif any(float(part.abs().max()) > LARGEST_LATENT for part in parts):
            refused[name] = f"beyond ±{LARGEST_LATENT:g}"
        else:
            good.append(i)
    return good, refused
