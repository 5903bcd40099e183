"""The folder that `palate scorer convert` writes: which kind of scorer it is, and that it is whole.

Beside a network's own files it holds `scorer.json` (the kind, and from which file it was made) and
the manifest of sizes and digests that every folder of ours has. A folder that was changed after it
was written, or is of another kind than the one asked for, is refused.

Read next: `hps.py` and `aesthetic.py`, which open such folders.
"""

from pathlib import Path
from typing import Any

from palate.core.files import MANIFEST, damage, digest_json, read_json, write_json
from palate.core.hub import fetch
from palate.core.problems import DataError, WeightsError, require
from palate.scorers.clip_folder import CONFIG

KEPT = "scorer.json"
FORMAT = 1
_WANTED = ("*.json", "*.txt", "*.safetensors")


def keep(folder: Path, kind: str, **facts: Any) -> None:
    """Write down what kind of scorer a folder holds, and what else is known of it."""
    write_json(folder / KEPT, {"palate_scorer": kind, "format": FORMAT, **facts})


def kind_of(folder: Path) -> str | None:
    """The kind of scorer a folder says it holds, or None when it says nothing.

    Raises:
        WeightsError: when what it says cannot be read.
    """
    try:
        for path in (each for each in (folder / KEPT, folder / CONFIG) if each.is_file()):
            told = read_json(path)
            if isinstance(told, dict) and "palate_scorer" in told:
                return str(told["palate_scorer"])
    except DataError as error:
        raise WeightsError(got=error.got, need=error.need, fix="Convert it again.") from error
    return None


def open_kept(model: str | Path, kind: str) -> Path:
    """The folder of a converted scorer, here or on the Hub, once it is sure that it is whole.

    Raises:
        WeightsError: when it is missing, of another kind, or not as it was written.
    """
    folder = fetch(model, files=_WANTED)
    found = kind_of(folder)
    said = "no converted scorer" if found is None else f"a scorer of kind {found!r}"
    require(
        found == kind,
        got=f"{folder}, {said}",
        need=f"a folder of kind {kind!r}",
        fix=f"Make one: palate scorer convert CHECKPOINT {folder.name}-converted --kind {kind}",
        kind=WeightsError,
    )
    wrong = damage(folder)
    if wrong is None and read_json(folder / KEPT).get("format") != FORMAT:
        wrong = f"{KEPT} of another format than {FORMAT}"
    require(
        wrong is None,
        got=f"{folder}: {wrong}",
        need="a scorer's folder as it was written",
        fix="Copy it again, or convert the checkpoint again.",
        kind=WeightsError,
    )
    return folder


def identity_of(folder: Path, kind: str, arithmetic: int) -> str:
    """Digest of what a converted scorer's numbers depend on: its files and its arithmetic.

    From whom the files were made is told in `scorer.json` and is no part of it.
    """
    files = read_json(folder / MANIFEST)["files"]
    facts = {name: fact["sha256"] for name, fact in files.items() if name != KEPT}
    return digest_json({"kind": kind, "files": facts, "arithmetic": arithmetic})
