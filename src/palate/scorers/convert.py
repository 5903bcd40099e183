"""From a checkpoint as its authors published it to a folder that a scorer opens.

Published preference scorers are pickled files, a format that can run code when opened. This is the
one place that reads them, once, by torch's restricted reader (`core.files.read_pickled_tensors`);
what it writes holds safetensors, settings and a tokenizer, and is all that scoring ever opens.

Read next: `kept.py`, the folder that is written.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

from torch import Tensor

from palate.core.files import (
    digest_file,
    load_weights,
    new_folder,
    read_pickled_tensors,
    save_weights,
    write_json,
)
from palate.core.hub import fetch
from palate.core.problems import StateError, WeightsError, require, unknown
from palate.scorers import aesthetic, hps, imagereward, pickscore
from palate.scorers.clip_folder import (
    CONFIG,
    WEIGHTS,
    expected_of,
    load_processors,
    processors_of,
    save_words,
)
from palate.scorers.imagereward_network import LEFT_OUT
from palate.scorers.kept import keep
from palate.scorers.open_clip import check_shapes

# Fetched from a base that is a Hub id: never a pickled file.
_BASE = ("*.json", "*.txt")
_NESTED = "state_dict/"
# A table of 0, 1, 2, …, which older transformers stored among the weights.
_COUNTED = ("text_model.embeddings.position_ids", "vision_model.embeddings.position_ids")


Write = Callable[[Mapping[str, Tensor], str | Path, Path], list[str]]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """How checkpoints of one kind become a folder.

    Attributes:
        write: From tensors and base to files in a folder; answers with sentences.
        lacks: What no checkpoint of this kind holds.
        beside: One of these files lies in a folder that has it.
        such: A published base.
    """

    write: Write
    lacks: str
    beside: tuple[str, ...]
    such: str


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Conversion:
    """What was read, renamed, left out and written, in plain sentences.

    Attributes:
        kind: The kind of scorer.
        folder: Where it is now.
        sentences: What happened, in order.
    """

    kind: str
    folder: Path
    sentences: tuple[str, ...]


def convert(
    checkpoint: str | Path, out: str | Path, *, kind: str, base: str | Path | None = None
) -> Conversion:
    """Read a checkpoint and write the folder of a scorer, whole or not at all.

    Args:
        checkpoint: The file as its authors published it: .pt, .pth, .bin, .ckpt or .safetensors.
        out: The folder to write. It must not exist.
        kind: `hpsv2`, `aesthetic`, `imagereward` or `pickscore`.
        base: A folder or Hub id with what the checkpoint lacks: CLIP's tokenizer (hpsv2), the
            CLIP model the head was taught on (aesthetic), BERT's tokenizer (imagereward), config
            and processors (pickscore). The checkpoint's own folder when left out.

    Raises:
        SettingError: for an unknown kind, or without a base where one is needed.
        StateError: when `out` exists, or the disk refuses.
        WeightsError: when the checkpoint would run code, or is not what `kind` says, or the base
            does not fit it.
    """
    if kind not in KINDS:
        raise unknown("kind", kind, KINDS)
    source, folder = Path(checkpoint).expanduser(), Path(out).expanduser()
    require(
        not folder.exists(),
        got=f"{folder}, which exists",
        need="a new folder",
        fix="Choose another name, or remove it first.",
        kind=StateError,
    )
    require(
        source.is_file(),
        got=f"no file {source}",
        need="the checkpoint as its authors published it",
        fix="Check the path; palate does not fetch checkpoints.",
        kind=WeightsError,
    )
    place = _base_of(source, KINDS[kind], base)
    tensors, told = _read(source)
    with new_folder(folder) as inside:
        told += KINDS[kind].write(tensors, place, inside)
        made = {"file": source.name, "bytes": source.stat().st_size, "sha256": digest_file(source)}
        keep(inside, kind, made_from=made)
    told.append(f"Wrote {folder}: a scorer of kind {kind}, weights in safetensors.")
    return Conversion(kind=kind, folder=folder, sentences=tuple(told))


def _base_of(source: Path, kind: Kind, base: str | Path | None) -> str | Path:
    """The base that was named, or the checkpoint's own folder where that has what is lacking."""
    require(
        base is not None or any((source.parent / name).is_file() for name in kind.beside),
        got=f"no --base, and no {kind.lacks} beside {source.name}",
        need=f"a folder or Hub id with the {kind.lacks}, which the checkpoint does not hold",
        fix=f"Add --base FOLDER, a copy of {kind.such}.",
    )
    return source.parent if base is None else base


def _read(source: Path) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors of a checkpoint under its authors' names, and sentences about the reading."""
    if source.suffix == ".safetensors":
        tensors, others = load_weights(source), dict[str, str]()
        told = [f"Read {source}: {len(tensors)} tensors of a safetensors file."]
    else:
        tensors, others = read_pickled_tensors(source)
        told = [
            f"Read {source}: {len(tensors)} tensors by torch's restricted reader. Nothing in the "
            "file was run, and nothing but tensors and plain values was opened."
        ]
    inner = {n.removeprefix(_NESTED): t for n, t in tensors.items() if n.startswith(_NESTED)}
    if inner:
        outer = sorted(name for name in tensors if not name.startswith(_NESTED))
        told += _left(outer, "tensors outside state_dict, which are no part of the network")
        tensors = inner
    told += _left([f"{n} ({v})" for n, v in sorted(others.items())], "values that are no tensors")
    return tensors, told


def _hpsv2(tensors: Mapping[str, Tensor], base: str | Path, folder: Path) -> list[str]:
    words = fetch(base, files=_BASE)
    count = hps.write_hps(tensors, words, folder)
    return [
        f"Renamed all {len(tensors)} tensors from open_clip's names to {count} of transformers': "
        "the joint projections of every attention are now three, and the two last projections "
        "are turned round. No number was changed.",
        f"Took the tokenizer from {words}.",
    ]


def _aesthetic(tensors: Mapping[str, Tensor], base: str | Path, folder: Path) -> list[str]:
    aesthetic.layers_of(tensors)
    clip = fetch(base, files=(*_BASE, "*.safetensors"))
    taken, left = aesthetic.write_aesthetic(tensors, clip, folder)
    return [
        f"Kept the head's {len(tensors)} tensors under their own names.",
        f"Took {taken} tensors from {clip}: the half of CLIP that sees.",
        f"Left out {left} tensors of {clip}, its half that reads: this score asks no prompt.",
    ]


def _imagereward(tensors: Mapping[str, Tensor], base: str | Path, folder: Path) -> list[str]:
    imagereward.write_imagereward(folder, tensors, base)
    left = sorted(name for name in tensors if name.startswith(LEFT_OUT))
    return [
        f"Renamed {len(tensors) - len(left)} tensors to the names of transformers' BLIP.",
        *_left(left, "tensors that have no part in the reward"),
        f"Took the tokenizer from {base}, and added BLIP's two words.",
    ]


def _pickscore(tensors: Mapping[str, Tensor], base: str | Path, folder: Path) -> list[str]:
    source = fetch(base, files=_BASE)
    config, expected = expected_of(source)
    counted = [name for name in _COUNTED if name in tensors]
    kept = {name: tensor for name, tensor in tensors.items() if name not in counted}
    check_shapes(kept, expected)
    eyes = processors_of(source, pickscore.PROCESSORS)
    pictures, words = load_processors(eyes)
    write_json(folder / CONFIG, config)
    save_weights(folder / WEIGHTS, kept)
    pictures.save_pretrained(folder)
    save_words(words, folder)
    return [
        f"Kept {len(kept)} tensors under their own names, which are transformers'.",
        *_left(counted, "tables that only count positions"),
        f"Took the config from {source}, image processor and tokenizer from {eyes}.",
    ]


def _left(names: Sequence[str], what: str) -> list[str]:
    """A sentence about what was left out, if anything was."""
    if not names:
        return []
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return [f"Left out {len(names)} {what}: {', '.join(names[:5])}{more}."]


_CLIP = "openai/clip-vit-large-patch14"
KINDS: Mapping[str, Kind] = {
    hps.KIND: Kind(
        write=_hpsv2, lacks="tokenizer of CLIP", beside=("tokenizer_config.json",), such=_CLIP
    ),
    aesthetic.KIND: Kind(write=_aesthetic, lacks="CLIP model", beside=(CONFIG,), such=_CLIP),
    imagereward.KIND: Kind(
        write=_imagereward,
        lacks="tokenizer of BERT",
        beside=("tokenizer.json", "vocab.txt"),
        such="bert-base-uncased",
    ),
    pickscore.KIND: Kind(
        write=_pickscore, lacks="CLIP config", beside=(CONFIG,), such=pickscore.PUBLISHED
    ),
}
