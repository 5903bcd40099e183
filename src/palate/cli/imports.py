"""`palate data import`: preferences come in by one door, and every row is accounted for."""

from pathlib import Path
from typing import Any, Literal

from palate.cli.app import Flag
from palate.cli.console import Bar, emit, next_steps, note, say
from palate.core.problems import DataError, SettingError, require

_BY_SUFFIX = {".parquet": "pickapic", ".jsonl": "jsonl"}


def import_pairs(
    path: str,
    /,
    *,
    store: Path,
    format: Literal["pickapic", "hpdv2", "imagereward", "jsonl", "folders"] | None = None,
    freeze: Path | None = None,
    limit: int | None = None,
    images: str | None = None,
    labels: Literal["human", "scorer", "vlm", "self", "world", "unknown"] | None = None,
    chosen: str | None = None,
    rejected: str | None = None,
    captions: str | None = None,
    caption: str | None = None,
    files: str | None = None,
    revision: str | None = None,
    json: Flag = False,
) -> None:
    """Read preferences into a store; every row is kept, or dropped for a reason that is named.

    A tie stays a tie and never becomes a win. Broken or dangerous pictures are
    dropped, the others are kept once, upright, without transparency, as 8-bit
    RGB.

    Args:
        path: The file or folder to read; for pickapic also a Hub name.
        store: The folder it goes into; created where it does not exist.
        format: The format; known by itself for .parquet, .jsonl and paired folders.
        freeze: Also freeze the store into this new folder, ready for training.
        limit: Stop after this many rows.
        images: Where the pictures are, if not beside the file (hpdv2, imagereward, jsonl).
        labels: Who made the labels, where the format does not say (pickapic, jsonl, folders).
        chosen: The folder of preferred pictures (folders).
        rejected: The folder of the others (folders).
        captions: The folder of .txt captions, if not beside the pictures (folders).
        caption: One caption for all pairs (folders).
        files: Which files of a folder or Hub name to read, such as *train*.parquet (pickapic).
        revision: Which revision of a Hub name (pickapic).
        json: Print the report as JSON and nothing else on stdout.
    """
    from palate.data.sources import import_comparisons
    from palate.data.store import Store

    kind = format or _guess(path)
    given = {
        "images": images,
        "labels": labels,
        "chosen": chosen,
        "rejected": rejected,
        "captions": captions,
        "caption": caption,
        "files": files,
        "revision": revision,
    }
    settings: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    place = Store(store)
    with Bar("rows") as bar:
        report = import_comparisons(place, kind, path, limit=limit, on_row=bar.count, **settings)
    require(
        not (report.read and report.read == sum(report.dropped.values()) and not place.ids()),
        got=f"no usable row in {path}. {report}",
        need="at least one row that can be kept",
        fix="The reasons above say what is wrong with the rows; docs/data.md has the formats",
        kind=DataError,
    )
    snapshot = place.freeze(freeze) if freeze is not None else None
    if json:
        facts = {"digest": snapshot.digest, "path": snapshot.path} if snapshot else None
        emit({**report.to_json(), "store": store, "snapshot": facts})
        return
    say(str(report))
    if freeze is not None:
        next_steps(
            f"palate data show {freeze}",
            f"palate audit {freeze}",
            f"palate train --model shipped --data {freeze} --out runs/first",
        )
    else:
        next_steps(f"palate data show {store}", f"palate data freeze {store} my-pairs")


def _guess(path: str) -> str:
    """The format of a path that says so itself."""
    place = Path(path).expanduser()
    kind = _BY_SUFFIX.get(place.suffix)
    if place.is_dir():
        kind = "pickapic" if any(place.glob("**/*.parquet")) else None
        kind = "folders" if (place / "chosen").is_dir() else kind
    if kind is None:
        raise SettingError(
            got=f"{path}, which does not say its format",
            need="--format pickapic, hpdv2, imagereward, jsonl or folders",
            fix="`palate data import --help` has an example of each.",
        )
    note(f"Reading {path} as {kind} (--format names another).")
    return kind
