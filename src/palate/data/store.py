"""Where comparisons accumulate: rows that are only ever added, pictures that are kept once.

An import becomes one *part*, a file that appears under its name only when it is complete, so an
import killed half-way has added nothing and can simply be run again. Training never reads a
store; it reads a *snapshot*, a frozen copy whose digest depends on its rows and pictures alone.

Read next: `pairs.py`, which opens a snapshot.
"""

import hashlib
import json
import os
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray

from palate.core.files import UNFINISHED, digest_file, new_folder, sweep, sync_folder, write_json
from palate.core.lock import sole_writer
from palate.core.problems import DataError, require
from palate.data.comparison import Comparison, ImageRef, from_json
from palate.data.pack import Encoded, write_pack
from palate.data.shelf import PICTURES, Shelf

STORE: Final = "store.json"
SNAPSHOT: Final = "snapshot.json"
ROWS: Final = "rows.jsonl"
FORMAT: Final = 1


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A frozen copy of a store.

    Attributes:
        path: Its folder.
        digest: Of rows and pictures; the same for the same data whenever it was imported.
        comparisons: How many rows.
        ties: How many of them are ties.
        prompts: How many different prompts.
        pictures: How many different pictures.
    """

    path: Path
    digest: str
    comparisons: int
    ties: int
    prompts: int
    pictures: int


@final
class Store:
    """A folder of comparisons that grows.

    Args:
        folder: An existing store, or a new or empty folder that becomes one.
        create: Whether a folder that is no store yet may become one.

    Raises:
        DataError: when the folder holds something else.
    """

    def __init__(self, folder: Path | str, *, create: bool = True) -> None:
        self.folder = Path(folder)
        self._parts = self.folder / "parts"
        self._imports = self.folder / "imports"
        self._pictures = self.folder / PICTURES
        self._shelf = Shelf(self._pictures)
        self._known: set[str] | None = None
        self._writing = False
        marker = self.folder / STORE
        require(
            create or marker.exists(),
            got=f"{self.folder}, which is no store",
            need=f"a folder with {STORE}",
            fix="Check the path, or fill a store with: palate data import.",
            kind=DataError,
        )
        self._open(marker)

    def _open(self, marker: Path) -> None:
        if not marker.exists():
            left = [p.name for p in self.folder.glob("*") if not p.name.startswith(UNFINISHED)]
            require(
                not set(left) - {"parts", "imports", PICTURES, "lock"},
                got=f"{self.folder}, which holds other things ({', '.join(sorted(left)[:3])})",
                need="a store, or a new folder",
                fix="Choose another folder for the store.",
                kind=DataError,
            )
            for folder in (self._parts, self._imports, self._pictures):
                folder.mkdir(parents=True, exist_ok=True)
            write_json(marker, {"palate_store": FORMAT})
        try:
            found = json.loads(marker.read_text(encoding="utf-8"))["palate_store"]
        except (OSError, ValueError, KeyError, TypeError):
            found = "unreadable"
        require(
            found == FORMAT,
            got=f"{marker} of format {found}",
            need=f"format {FORMAT}",
            fix="Use the version of palate that wrote it, or import the data again.",
            kind=DataError,
        )

    @contextmanager
    def writing(self) -> Generator[None]:
        """Be the only writer; clears what an interrupted one left behind.

        Raises:
            StateError: when another process is writing; it is named.
        """
        if self._writing:
            yield
            return
        with sole_writer(self.folder / "lock"):
            for folder in (self.folder, self._parts, self._imports, self._pictures):
                sweep(folder)
            # Another process may have added parts since this one looked.
            self._known = None
            self._writing = True
            try:
                yield
            finally:
                self._writing = False

    def put(self, pixels: NDArray[np.uint8]) -> ImageRef:
        """Keep a picture of our own making, uint8 [height, width, 3], and return its name."""
        with self.writing():
            return self._shelf.put(pixels)

    def image(self, sha256: str) -> NDArray[np.uint8]:
        """A picture's pixels, uint8 [height, width, 3].

        Raises:
            DataError: when it is missing or damaged.
        """
        return self._shelf.get(sha256)

    def images(self, names: Sequence[str]) -> list[NDArray[np.uint8]]:
        """Several pictures, in order."""
        return [self.image(name) for name in names]

    def ids(self) -> frozenset[str]:
        """The ids of all rows."""
        return frozenset(self._ids())

    def add(self, comparisons: Iterable[Comparison]) -> int:
        """Add rows as one part: all of them, or none if anything interrupts.

        Rows that are here already are passed over. Returns how many were new.

        Raises:
            StateError: when another process is writing, or the disk refuses.
        """
        with self.writing():
            known, fresh = self._ids(), set[str]()
            temporary = self._parts / f"{UNFINISHED}part"
            total = hashlib.sha256()
            with temporary.open("wb") as file:
                for row in comparisons:
                    if row.id in known or row.id in fresh:
                        continue
                    fresh.add(row.id)
                    line = (row.to_json() + "\n").encode()
                    total.update(line)
                    file.write(line)
                file.flush()
                os.fsync(file.fileno())
            if fresh:
                # One flush for thousands of pictures; one by one it takes longer than decoding.
                os.sync()
                files = self._part_files()
                number = int(files[-1].name[:6]) + 1 if files else 1
                os.replace(temporary, self._parts / f"{number:06d}-{total.hexdigest()}.jsonl")
                sync_folder(self._parts)
                known |= fresh
            else:
                temporary.unlink()
            return len(fresh)

    def rows(self) -> Iterator[Comparison]:
        """All rows, in the order they were added.

        Raises:
            DataError: when a part is damaged; it is named.
        """
        for path in self._part_files():
            digest = path.stem.partition("-")[2]
            require(
                digest_file(path) == digest,
                got=f"{path}, which was changed",
                need="a part as it was written",
                fix="Restore it from a copy, or remove it and import that data again.",
                kind=DataError,
            )
            with path.open(encoding="utf-8") as file:
                yield from map(from_json, file)

    def note_import(self, facts: Mapping[str, Any]) -> None:
        """Keep the report of an import."""
        number = len(list(self._imports.glob("*.json"))) + 1
        write_json(self._imports / f"{number:06d}.json", dict(facts))

    def imports(self) -> list[dict[str, Any]]:
        """The reports of all imports, oldest first."""
        files = sorted(self._imports.glob("*.json"))
        return [json.loads(path.read_text(encoding="utf-8")) for path in files]

    def freeze(self, out: Path | str) -> Snapshot:
        """Write a snapshot folder: rows, pictures, digest and counts.

        Raises:
            DataError: when there is nothing to freeze, or a row or picture is damaged.
            StateError: when `out` exists or the disk refuses.
        """
        rows = list(self.rows())
        require(
            bool(rows),
            got=f"{self.folder} without any rows",
            need="at least one comparison",
            fix="Import some first: palate data import.",
            kind=DataError,
        )
        return write_snapshot(Path(out), rows, self._shelf, self.imports())

    def _part_files(self) -> list[Path]:
        return sorted(self._parts.glob("*.jsonl"))

    def _ids(self) -> set[str]:
        if self._known is None:
            self._known = {row.id for row in self.rows()}
        return self._known


def write_snapshot(
    out: Path,
    comparisons: Sequence[Comparison],
    pictures: Encoded,
    imports: Sequence[Mapping[str, Any]],
) -> Snapshot:
    """Write a snapshot folder: rows, pictures, digest, counts, and how they came to be.

    Raises:
        DataError: when a picture is missing or damaged.
        StateError: when `out` exists or the disk refuses.
    """
    rows = sorted(comparisons, key=lambda row: row.id)
    names = sorted({image.sha256 for row in rows for image in row.images})
    facts = {
        "palate_snapshot": FORMAT,
        "digest": digest_rows(rows),
        "comparisons": len(rows),
        "ties": sum(row.tie for row in rows),
        "prompts": len({row.prompt for row in rows}),
        "pictures": len(names),
    }
    with new_folder(out) as folder:
        with (folder / ROWS).open("w", encoding="utf-8") as file:
            file.writelines(f"{row.to_json()}\n" for row in rows)
        write_pack(folder, pictures, names)
        write_json(folder / SNAPSHOT, {**facts, "imports": [dict(each) for each in imports]})
    counts = {key: int(facts[key]) for key in ("comparisons", "ties", "prompts", "pictures")}
    return Snapshot(path=out, digest=str(facts["digest"]), **counts)


def digest_rows(rows: Sequence[Comparison]) -> str:
    """Digest of rows that are sorted by id. Pictures are named by content, so they are in it."""
    total = hashlib.sha256()
    for row in rows:
        total.update(row.digest().encode())
    return total.hexdigest()
