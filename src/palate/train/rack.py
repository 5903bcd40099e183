"""A rack of tensors computed once: named rows in digest-checked shards, keyed by what made them.

Each rack is a folder named by the digest of its factors (weights, resolution, filter, …). A
shard appears under its name only when it is whole; the rows of a damaged one are computed again.
Another resolution or another autoencoder is another rack, never a wrong hit. Several runs may
share a rack: reading needs no lock, whatever is written or removed happens inside `writing`.
"""

import json
from collections import OrderedDict
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, final

import torch
from safetensors import safe_open
from torch import Tensor

from palate.core.files import (
    digest_file,
    digest_json,
    digest_tensors,
    save_weights,
    sweep,
    write_json,
)
from palate.core.lock import patient_writer

ROWS_PER_SHARD = 512
OPEN_SHARDS = 64


@final
class Rack:
    """Named rows of tensors that were all made in the same way.

    Attributes:
        factors: Everything the rows depend on, apart from their names.
        refused: Names that cannot be used, and why.
        damaged: Names whose rows were lost to damaged shards and have to be made again.
        unreadable: Shards so damaged that nobody knows what was in them.
    """

    def __init__(self, room: Path, factors: Mapping[str, Any]) -> None:
        """Open the rack of these factors, checking every shard's digest; nothing is changed."""
        self.factors = dict(factors)
        self.room = room
        self.folder = room / digest_json(self.factors)[:20]
        self.refused: dict[str, str] = {}
        self.damaged: set[str] = set()
        self.unreadable = 0
        self._digests: dict[str, str] = {}
        self._known: set[Path] = set()
        self._places: dict[str, tuple[Path, int]] = {}
        self._open: OrderedDict[Path, Any] = OrderedDict()
        self.folder.mkdir(parents=True, exist_ok=True)
        self._read(remove=False)

    @contextmanager
    def writing(self, tell: Callable[[str], None]) -> Generator[None]:
        """Be the only writer, after waiting for another; `tell` hears who is waited for.

        What others added meanwhile is taken in, and what an interrupted writer left is removed.
        """
        with patient_writer(self.folder / "lock", tell):
            sweep(self.folder)
            if not (self.folder / "factors.json").is_file():
                write_json(self.folder / "factors.json", self.factors)
            self._read(remove=True)
            yield

    def __contains__(self, name: str) -> bool:
        return name in self._places or name in self.refused

    def __len__(self) -> int:
        return len(self._places)

    def missing(self, names: Sequence[str]) -> list[str]:
        """The names that are not there yet, sorted, each once."""
        # Sorted, so that an interrupted preparation goes on in the same groups as before.
        return sorted({name for name in names if name not in self})

    def add(
        self, names: Sequence[str], tensors: Mapping[str, Tensor], refused: Mapping[str, str]
    ) -> None:
        """Put rows on the rack, as one shard. Inside `writing`, where others may write too.

        Args:
            names: One name per row.
            tensors: Named tensors, each with one row per name.
            refused: Further names that could not be made, and why.

        Raises:
            StateError: when the disk refuses.
        """
        stem = f"shard-{digest_json([*names, *sorted(refused)])[:20]}"
        path = self.folder / f"{stem}.safetensors"
        facts: dict[str, Any] = {"names": list(names), "refused": dict(refused)}
        facts["digests"] = [
            digest_tensors({key: tensor[row] for key, tensor in tensors.items()})
            for row in range(len(names))
        ]
        if names:
            save_weights(path, tensors)
            facts["sha256"] = digest_file(path)
        write_json(path.with_suffix(".json"), facts)
        self._register(path.with_suffix(".json"), remove=True)

    def digest(self, names: Sequence[str]) -> str:
        """SHA-256 of the rows of these names: equal only when every bit of them is."""
        return digest_json({name: self._digests.get(name) or self.refused[name] for name in names})

    def rows(self, names: Sequence[str]) -> dict[str, Tensor]:
        """The rows of these names, in their order, stacked."""
        found: dict[str, list[Tensor]] = {}
        for name in names:
            path, row = self._places[name]
            shard = self._shard(path)
            for key in shard.keys():  # noqa: SIM118 - a shard is a file, not a mapping
                found.setdefault(key, []).append(shard.get_slice(key)[row : row + 1])
        return {key: torch.cat(parts) for key, parts in found.items()}

    def elsewhere(self, names: Sequence[str]) -> tuple[int, str]:
        """How many of these names stand on another rack of the room, and what differs there.

        Of several racks the one with the fewest differences is told.
        """
        found: list[tuple[int, int, str]] = []
        for path in sorted(self.room.glob("*/factors.json")):
            if path.parent != self.folder:
                held = set(names) & _names(path.parent)
                differences = explain(json.loads(path.read_text()), self.factors)
                found += [(len(differences), len(held), "; ".join(differences))] if held else []
        return min(found)[1:] if found else (0, "")

    def _read(self, *, remove: bool) -> None:
        """Take in the shards that are not known yet."""
        for card in sorted(self.folder.glob("shard-*.json")):
            if card not in self._known:
                self._register(card, remove=remove)

    def _register(self, card: Path, *, remove: bool) -> None:
        """Take a shard into the index; where it is not what was written, `remove` may remove it."""
        path = card.with_suffix(".safetensors")
        try:
            facts = json.loads(card.read_text())
            names, refused = list(facts["names"]), dict(facts["refused"])
            digests = dict(zip(names, facts["digests"], strict=True))
            whole = not names or (path.is_file() and digest_file(path) == facts["sha256"])
        except (OSError, ValueError, KeyError, TypeError):
            names, refused, digests, whole = [], {}, {}, False
        if not whole:
            self.damaged |= set(names)
            # Without the lock another process may just be mending it.
            if remove:
                self.unreadable += not names
                card.unlink(missing_ok=True)
                path.unlink(missing_ok=True)
            return
        self._known.add(card)
        self._digests |= digests
        self._places |= {name: (path, row) for row, name in enumerate(names)}
        self.refused |= refused

    def _shard(self, path: Path) -> Any:
        if path not in self._open:
            self._open[path] = safe_open(path, framework="pt")
        self._open.move_to_end(path)
        while len(self._open) > OPEN_SHARDS:
            self._open.popitem(last=False)
        return self._open[path]


def _names(folder: Path) -> set[str]:
    """What stands on a rack, by its cards; the shards are not looked at."""
    found: set[str] = set()
    for card in folder.glob("shard-*.json"):
        with suppress(OSError, ValueError, KeyError, TypeError):
            found |= set(json.loads(card.read_text())["names"])
    return found


def explain(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Which factors differ between two racks, one short phrase each."""
    names = sorted({*before, *after})
    return [
        f"{name} changed {_short(before.get(name))} to {_short(after.get(name))}"
        for name in names
        if before.get(name) != after.get(name)
    ]


def _short(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 16 else f"{text[:8]}…"
