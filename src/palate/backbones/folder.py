"""A pipeline folder in the layout diffusers writes, checked before any weight is read.

Class names come from files that strangers wrote, so they are looked up in tables of ours and never
imported by name. Weights are safetensors or nothing. A part is identified by the digest of its
weights and settings, so that whatever is cached can tell when it no longer fits.

Read next: `parts.py`, which loads what is described here.
"""

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, final

from palate.core.files import digest_file, digest_json, read_json
from palate.core.hub import fetch
from palate.core.problems import DataError, WeightsError, nearest, require

INDEX = "model_index.json"
SAFE = ".safetensors"
# Weights in the plain names only: not the half, the non-averaged or the pickled duplicates.
WANTED = (
    INDEX,
    "*/*.json",
    "*/*.txt",
    "*/*.model",
    f"*/diffusion_pytorch_model{SAFE}",
    f"*/model{SAFE}",
    f"*-of-*{SAFE}",
    "effnet_encoder.safetensors",
)
NOT_USED = (
    "safety_checker/*",
    "feature_extractor/*",
    "image_encoder/*",
    "vae_1_0/*",
    "*.fp16-*-of-*",
)
# In an allow-list: the folder may say that it does not have this part.
ABSENT = ""
# What the network that denoises may be called in a folder.
NETWORKS = ("unet", "transformer", "prior")
_PICKLED = (".bin", ".pt", ".pth", ".ckpt")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One component of a pipeline folder.

    Attributes:
        name: Its name in the index, such as `unet`.
        folder: Where its files are.
        class_name: The class the index names; already found in the allow-list.
        settings: Its configuration, without the notes that diffusers keeps in it.
        weights: Its safetensors files; none for a tokenizer or scheduler.
        variant: The word between stem and suffix where only a variant is there (`fp16`).
    """

    name: str
    folder: Path
    class_name: str
    settings: Mapping[str, Any]
    weights: tuple[Path, ...]
    variant: str | None

    @property
    def files(self) -> tuple[Path, ...]:
        """The files this part consists of: weights in use, settings and vocabulary."""
        texts = (p for p in self.folder.iterdir() if p.suffix in (".json", ".txt", ".model"))
        return (*self.weights, *sorted(texts))

    @property
    def digest(self) -> str:
        """SHA-256 over the names and digests of its weights and vocabulary, and its settings."""
        facts = {p.name: _digest(p, *_stamp(p)) for p in self.files if p.name not in _NOTES}
        return digest_json({"files": facts, "settings": self.settings, "class": self.class_name})

    def copy(self, to: Path) -> None:
        """Copy this part's files into a new folder, under the names plain diffusers looks for."""
        to.mkdir(parents=True)
        middle = f".{self.variant}" if self.variant else ""
        for path in self.files:
            shutil.copyfile(path, to / path.name.replace(f"{middle}{SAFE}", SAFE))


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """A pipeline folder whose index has been read.

    Attributes:
        name: What the user called it.
        path: Where it is.
        index: The content of `model_index.json`.
    """

    name: str
    path: Path
    index: Mapping[str, Any]

    @classmethod
    def open(cls, model: str | Path) -> "Folder":
        """Find a pipeline folder, from the Hub if need be, and read its index.

        Raises:
            WeightsError: when it is not there, or is not a pipeline folder.
        """
        path = fetch(model, files=WANTED, without=NOT_USED)
        require(
            (path / INDEX).is_file(),
            got=f"{model} without {INDEX}",
            need="a pipeline folder as diffusers' save_pretrained writes it",
            fix=_advice(path),
            kind=WeightsError,
        )
        index = _mapping(path / INDEX)
        return cls(name=str(model), path=path, index=index)

    @property
    def family(self) -> str:
        """The pipeline class the index names."""
        return str(self.index.get("_class_name"))

    def parts(self, allowed: Mapping[str, Iterable[str]]) -> dict[str, Part]:
        """The parts of this folder, each checked for its class and its files.

        Args:
            allowed: For each part that is needed, the class names it may have. With `ABSENT`
                among them the index may say `[null, null]`, or nothing where there are no
                files either; such a part is left out.

        Raises:
            WeightsError: naming everything that is missing at once, or the class that is refused.
        """
        missing: list[str] = []
        found: dict[str, Part] = {}
        for name, classes in allowed.items():
            part = self._part(name, tuple(classes), missing)
            if part is not None:
                found[name] = part
        require(
            not missing,
            got=f"{self.name} without {', '.join(missing)}",
            need=f"a whole pipeline folder: {', '.join(_needed(allowed))}",
            fix="Copy or download the folder again; it may have been interrupted.",
            kind=WeightsError,
        )
        return found

    def _part(self, name: str, classes: tuple[str, ...], missing: list[str]) -> Part | None:
        entry, folder = self.index.get(name), self.path / name
        if ABSENT in classes and (entry == [None, None] or self._unnamed(name, classes)):
            return None
        classes = tuple(word for word in classes if word != ABSENT)
        if not (isinstance(entry, list) and len(entry) == 2 and entry[1]):
            missing.append(f"{name} (not in {INDEX})")
            return None
        class_name = str(entry[1])
        require(
            class_name in classes,
            got=f"{self.name}: {name} of class {class_name}",
            need=f"one of {', '.join(classes)}",
            fix=_closest(class_name, classes),
            kind=WeightsError,
        )
        settings_file = folder / SETTINGS.get(name, "config.json")
        if not settings_file.is_file():
            missing.append(f"{name}/{settings_file.name}")
            return None
        weights, variant = ((), None) if name in SETTINGS else _weights(folder)
        if name not in SETTINGS and not weights:
            missing.append(f"{name}/*{SAFE}{_pickled(folder)}")
            return None
        settings = {k: v for k, v in _mapping(settings_file).items() if not k.startswith("_")}
        return Part(
            name=name,
            folder=folder,
            class_name=class_name,
            settings=settings,
            weights=weights,
            variant=variant,
        )

    def _unnamed(self, name: str, classes: tuple[str, ...]) -> bool:
        """Whether the index does not speak of a part that may be absent, and it is.

        Raises:
            WeightsError: when its files are there all the same, and nobody knows what they are.
        """
        if name in self.index:
            return False
        known = ", ".join(word for word in classes if word != ABSENT)
        require(
            not (self.path / name).exists(),
            got=f"{self.name} with {name}, of which {INDEX} does not speak",
            need=f"the library and class of it ({known}) in {INDEX}",
            fix=f'To go on without it, write "{name}": [null, null] there.',
            kind=WeightsError,
        )
        return True


# Parts without weights, and the file that holds their settings.
SETTINGS = {
    "tokenizer": "tokenizer_config.json",
    "tokenizer_2": "tokenizer_config.json",
    "tokenizer_3": "tokenizer_config.json",
    "scheduler": "scheduler_config.json",
    "prior_tokenizer": "tokenizer_config.json",
    "prior_scheduler": "scheduler_config.json",
}
# Read as settings, without the notes in them, so not digested as files.
_NOTES = {"config.json", *SETTINGS.values()}


def network_of(digests: Mapping[str, str]) -> str:
    """Which of a model's digests is of the network that denoises; `unet` where none is named."""
    return next((name for name in NETWORKS if name in digests), NETWORKS[0])


def _needed(allowed: Mapping[str, Iterable[str]]) -> list[str]:
    """The parts that no folder may be without."""
    return [name for name, classes in allowed.items() if ABSENT not in classes]


def _weights(folder: Path) -> tuple[tuple[Path, ...], str | None]:
    """The safetensors files that loading would read, and the variant they are."""
    for stem in ("diffusion_pytorch_model", "model"):
        whole = folder / f"{stem}{SAFE}"
        if whole.is_file():
            return (whole,), None
        listing = folder / f"{stem}{SAFE}.index.json"
        if listing.is_file():
            table = _mapping(listing).get("weight_map")
            names = set(table.values()) if isinstance(table, dict) else set()
            plain = all(isinstance(n, str) and Path(n).name == n for n in names)
            shards = tuple(folder / name for name in sorted(names)) if plain else ()
            return (shards if all(s.is_file() for s in shards) else ()), None
        if (half := folder / f"{stem}.fp16{SAFE}").is_file():
            return (half,), "fp16"
    return (), None


def _pickled(folder: Path) -> str:
    """What to add when the weights are there in a format that is not opened."""
    names = [p.name for p in folder.glob("*") if p.suffix in _PICKLED]
    if not names:
        return ""
    return f" (only {', '.join(sorted(names))}, a format that can run code when opened)"


def _advice(path: Path) -> str:
    """What to do with a folder that is no pipeline."""
    single = sorted(p.name for p in path.glob("*") if p.suffix in (SAFE, *_PICKLED))
    inner = sorted(p.parent.name for p in path.glob(f"*/{INDEX}"))
    if inner:
        return f"Did you mean {path / inner[0]}?"
    if single:
        return f"Convert {single[0]} with diffusers' from_single_file and save_pretrained."
    return "Give the folder that holds the network, vae and text_encoder."


def _closest(word: str, options: Iterable[str]) -> str:
    guess = nearest(word, options)
    return f"Did you mean a folder with {guess}?" if guess else "Use a model of this family."


def _mapping(path: Path) -> dict[str, Any]:
    """A JSON object from a stranger's file."""
    try:
        value = read_json(path)
    except DataError as error:
        raise WeightsError(got=error.got, need=error.need, fix="Fetch the file again.") from error
    require(
        isinstance(value, dict),
        got=f"{path} holding {type(value).__name__}",
        need="a JSON object",
        fix="Fetch the file again.",
        kind=WeightsError,
    )
    return value


def _stamp(path: Path) -> tuple[int, int]:
    facts = path.stat()
    return facts.st_size, facts.st_mtime_ns


@lru_cache(maxsize=256)
def _digest(path: Path, size: int, changed: int) -> str:
    """A file's digest, computed once as long as its size and time stay."""
    return digest_file(path)
