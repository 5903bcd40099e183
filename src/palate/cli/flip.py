"""`palate data flip`: labels turned round on purpose, and back."""

from pathlib import Path
from typing import Any

from palate.cli.app import Flag
from palate.cli.console import emit, next_steps, say


def flip(
    snapshot: Path,
    out: Path,
    /,
    *,
    share: float = 0.2,
    seed: int = 0,
    undo: Flag = False,
    json: Flag = False,
) -> None:
    """Turn a share of the labels round for an experiment, or turn them back.

    Winner and loser are swapped in records drawn once; everything else stays.
    The new snapshot records which ones, so that --undo gives back the original
    to the digest.

    Args:
        snapshot: A frozen snapshot.
        out: The folder of the new snapshot.
        share: The part of the records with a winner to turn round.
        seed: Which part that is.
        undo: Turn the labels of a snapshot made by this command back.
        json: Print JSON and nothing else.
    """
    facts, text = _back(snapshot, out) if undo else _turned(snapshot, out, share, seed)
    if json:
        emit(facts)
        return
    say(text)
    for name, why in _LEFT.items():
        if facts.get(name):
            say(f"{facts[name]:,} left alone: {why}")
    next_steps(
        f"palate train --model shipped --data {out} --out runs/flipped",
        *(() if undo else (f"palate data flip --undo {out} AS-BEFORE",)),
    )


def _turned(snapshot: Path, out: Path, share: float, seed: int) -> tuple[dict[str, Any], str]:
    """Turn labels round: what was made, for JSON and in words."""
    from palate.data.flips import flip as turn

    made = turn(snapshot, out, share=share, seed=seed)
    facts = {
        "path": made.snapshot.path,
        "digest": made.snapshot.digest,
        "flipped": made.flipped,
        "strict": made.strict,
        "mirrored": made.mirrored,
        "several": made.several,
    }
    return facts, f"{out}: {made.flipped:,} of {made.strict:,} labels turned round"


def _back(snapshot: Path, out: Path) -> tuple[dict[str, Any], str]:
    """Turn them back: the same of that."""
    from palate.data.flips import undo

    back = undo(snapshot, out)
    facts = {"path": back.path, "digest": back.digest, "flipped": 0}
    return facts, f"{out}: the labels as they were, digest {back.digest[:12]}"


_LEFT = {
    "mirrored": "the same judge is on record with the opposite as well",
    "several": "they rank more than two pictures",
}
