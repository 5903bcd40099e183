"""`palate data`: bring preferences in, look at them, freeze them for training."""

from pathlib import Path
from typing import Any

from palate.cli.app import Flag, examples, new_app
from palate.cli.console import emit, next_steps, say, table
from palate.cli.flip import flip
from palate.cli.imports import import_pairs
from palate.cli.join import join
from palate.cli.judges import aggregate, judges
from palate.cli.part import label_part
from palate.cli.select import select
from palate.core.problems import DataError, require

# Files by which a folder tells what it is.
_STORE, _SNAPSHOT = "store.json", "snapshot.json"

data = new_app(
    "data",
    "Import, look at and freeze preference pairs.",
    examples(
        """
        palate data import pairs.parquet --store my-store
        palate data show my-store
        palate data freeze my-store my-pairs
        """
    ),
)

data.command(
    import_pairs,
    name="import",
    help_epilogue=examples(
        """
        palate data import pairs.parquet --store my-store --freeze my-pairs
        palate data import shards/ --format pickapic --store my-store
        palate data import train.json --format hpdv2 --images pics/ --store my-store
        palate data import pairs.jsonl --store my-store --labels human
        palate data import sets/ --format folders --chosen good --rejected bad \\
            --caption "a portrait" --store my-store
        """
    ),
)


@data.command(
    help_epilogue=examples(
        """
        palate data show my-pairs
        palate data show my-pairs --grid pairs.png
        palate data show my-store --json
        """
    )
)
def show(folder: Path, /, *, grid: Path | None = None, count: int = 12, json: Flag = False) -> None:
    """Say what is in a store or a snapshot: how many, whose, ties, contradictions.

    Args:
        folder: A store, or a frozen snapshot.
        grid: Also write a PNG with the first pairs of a snapshot, the chosen picture left.
        count: How many pairs are in that PNG.
        json: Print JSON and nothing else.
    """
    facts = _snapshot(folder, grid, count) if _is_snapshot(folder) else _store(folder, grid)
    if json:
        emit(facts)
        return
    table(("", str(folder)), [(name.replace("_", " "), _words(v)) for name, v in facts.items()])
    if grid is not None:
        say(f"the first pairs are in {grid}, the chosen picture left")
    next_steps(_train(folder) if _is_snapshot(folder) else f"palate data freeze {folder} my-pairs")


@data.command(
    help_epilogue=examples(
        """
        palate data freeze my-store my-pairs
        """
    )
)
def freeze(store: Path, out: Path, /, *, json: Flag = False) -> None:
    """Copy a store into a snapshot that never changes: what a training reads.

    Args:
        store: The store.
        out: The new folder of the snapshot.
        json: Print JSON and nothing else.
    """
    from palate.data.store import Store

    _need_store(store)
    made = Store(store).freeze(out)
    facts = {
        "path": made.path,
        "digest": made.digest,
        "comparisons": made.comparisons,
        "ties": made.ties,
        "prompts": made.prompts,
        "pictures": made.pictures,
    }
    if json:
        emit(facts)
        return
    say(
        f"{made.path}: {made.comparisons:,} comparisons ({made.ties:,} ties) on "
        f"{made.prompts:,} prompts, {made.pictures:,} pictures, digest {made.digest[:12]}"
    )
    next_steps(f"palate data show {out}", f"palate audit {out}", _train(out))


data.command(
    label_part,
    help_epilogue=examples(
        r"""
        palate data label-part my-pairs few-labels \
            --scorer world:vividness --sharpness 10
        palate data label-part my-pairs few-labels \
            --share 0.1 --scorer clip:MODEL-FOLDER
        palate data label-part my-pairs tuned-labels \
            --scorer clip:MODEL-FOLDER --scorer pickscore --sharpness fit
        palate data label-part my-pairs both-labels --share 1 --scorer world
        """
    ),
)

data.command(
    flip,
    help_epilogue=examples(
        """
        palate data flip my-pairs flipped --share 0.2 --seed 0
        palate data flip --undo flipped as-before
        """
    ),
)
data.command(
    join,
    help_epilogue=examples(
        """
        palate data join final doubted answers
        palate data join all-pairs first-part second-part third-part
        """
    ),
)
data.command(
    select,
    help_epilogue=examples(
        r"""
        palate data select my-pairs best --keep 5000 --scorer pickscore
        palate data select my-pairs best --keep 0.25 --scorer world \
            --weights margin=1,diversity=0.5 --quality none
        palate data select my-pairs drawn --keep 5000 --by random --seed 1
        """
    ),
)
data.command(
    judges,
    help_epilogue=examples(
        """
        palate data judges my-pairs
        palate data judges my-store --json
        """
    ),
)
data.command(
    aggregate,
    help_epilogue=examples(
        """
        palate data aggregate my-pairs soft-labels
        palate data aggregate my-pairs soft-labels --by dawid-skene
        palate data aggregate my-pairs soft-labels --only human
        """
    ),
)


def _is_snapshot(folder: Path) -> bool:
    return (folder / _SNAPSHOT).is_file()


def _snapshot(folder: Path, picture: Path | None, count: int) -> dict[str, Any]:
    from palate.cli.pictures import grid
    from palate.data.pairs import PreferencePairs

    pairs = PreferencePairs.open(folder)
    if picture is not None:
        first = [pairs[index] for index in range(min(count, len(pairs)))]
        images = [pairs.image(name) for pair in first for name in (pair.chosen, pair.rejected)]
        captions = [text for pair in first for text in (f"+ {pair.prompt}", f"– {pair.judge}")]
        picture.parent.mkdir(parents=True, exist_ok=True)
        grid(images, captions, columns=6).save(picture)
    return pairs.summary()


def _store(folder: Path, picture: Path | None) -> dict[str, Any]:
    from palate.data.store import Store

    _need_store(folder)
    require(
        picture is None,
        got=f"--grid with {folder}, a store",
        need="a frozen snapshot",
        fix=f"palate data freeze {folder} my-pairs",
    )
    store = Store(folder)
    rows = list(store.rows())
    return {
        "comparisons": len(rows),
        "ties": sum(row.tie for row in rows),
        "prompts": len({row.prompt for row in rows}),
        "judges": len({row.judge for row in rows}),
        "pictures": len({image.sha256 for row in rows for image in row.images}),
        "imports": [
            {key: each.get(key) for key in ("source", "path", "read", "kept", "dropped")}
            for each in store.imports()
        ],
    }


def _need_store(folder: Path) -> None:
    """Opening a store makes one where there is none: here that would only hide a typing mistake."""
    require(
        (folder / _STORE).is_file(),
        got=f"{folder}, neither a store nor a snapshot"
        if folder.is_dir()
        else f"no folder {folder}",
        need="a folder that `palate data import` or `palate data freeze` wrote",
        fix="palate data import PAIRS --store my-store",
        kind=DataError,
    )


def _train(snapshot: Path) -> str:
    return f"palate train --model shipped --data {snapshot} --out runs/first"


def _words(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}: {_words(each)}" for name, each in value.items()) or "none"
    if isinstance(value, list):
        return "\n".join(_words(each) for each in value) or "none"
    if isinstance(value, float):
        return f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
