"""Reading a frozen snapshot back, and refusing one that is not as it was written.

A snapshot folder holds `rows.jsonl`, the pictures in packs with their index, `snapshot.json` with
digest and counts, and a manifest of all of them.
"""

import json
from pathlib import Path
from typing import Any

from palate.core.files import MANIFEST, damage, digest_file
from palate.core.problems import DataError, require
from palate.data.comparison import Comparison, from_json
from palate.data.store import FORMAT, ROWS, SNAPSHOT, digest_rows


def read_rows(folder: Path) -> list[Comparison]:
    """The rows of a snapshot that is whole.

    Raises:
        DataError: when it is not, or there is none; the file is named.
    """
    _there(folder)
    facts = _load(folder / SNAPSHOT)
    require(
        facts.get("palate_snapshot") == FORMAT,
        got=f"{folder / SNAPSHOT} of format {facts.get('palate_snapshot')}",
        need=f"a snapshot of format {FORMAT}",
        fix="Make one with: palate data freeze.",
        kind=DataError,
    )
    wrong = _misfit(folder)
    if wrong is not None:
        raise refused(folder, wrong)
    try:
        with (folder / ROWS).open(encoding="utf-8") as file:
            rows = [from_json(line) for line in file]
    except (OSError, ValueError) as error:
        raise refused(folder, f"{ROWS} cannot be read ({error})") from error
    if digest_rows(rows) != facts.get("digest"):
        raise refused(folder, f"{ROWS} does not have the digest in {SNAPSHOT}")
    return rows


def _there(folder: Path) -> None:
    """Refuse a path that leads to no snapshot at all: freezing again would not mend it."""
    problems = [
        (not folder.exists(), f"{folder}, which does not exist"),
        (not folder.is_dir(), f"{folder}, which is no folder"),
        (
            not any((folder / name).exists() for name in (SNAPSHOT, ROWS)),
            f"no {SNAPSHOT} in {folder}",
        ),
    ]
    for wrong, got in problems:
        require(
            not wrong,
            got=got,
            need="the folder of a snapshot",
            fix="Check the path; palate data freeze makes a snapshot of a store.",
            kind=DataError,
        )


def _misfit(folder: Path) -> str | None:
    """What is missing, cut or changed. Packs by size only: reading a picture checks the rest."""
    files = _load(folder / MANIFEST).get("files", {})
    for name, fact in files.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != fact["bytes"]:
            return f"{name} has {path.stat().st_size} bytes instead of {fact['bytes']}"
        if path.suffix != ".pack" and digest_file(path) != fact["sha256"]:
            return f"{name} was changed: its digest differs"
    return None if ROWS in files else f"{ROWS} is not in {MANIFEST}"


def read_imports(folder: Path) -> list[dict[str, Any]]:
    """How the rows of a snapshot came to be: the reports of its imports, oldest first.

    Raises:
        DataError: when they cannot be read, or there are none.
    """
    _there(folder)
    return list(_load(folder / SNAPSHOT).get("imports", []))


def verify(folder: Path | str) -> None:
    """Check every byte of a snapshot, pictures included.

    Raises:
        DataError: when something differs, or there is none; the file is named.
    """
    _there(Path(folder))
    wrong = damage(Path(folder))
    if wrong is not None:
        raise refused(Path(folder), wrong)


def _load(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise refused(path.parent, f"{path.name} cannot be read ({error})") from error
    if not isinstance(value, dict):
        raise refused(path.parent, f"{path.name} holds no facts")
    return value  # pyright: ignore[reportUnknownVariableType]


def refused(folder: Path, what: str) -> DataError:
    """The refusal of a snapshot."""
    return DataError(
        got=f"snapshot {folder}: {what}",
        need="a snapshot as `palate data freeze` wrote it",
        fix="Freeze the store again into a new folder.",
    )
