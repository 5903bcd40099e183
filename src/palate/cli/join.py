"""`palate data join`: one snapshot of several."""

from pathlib import Path

from palate.cli.app import Flag
from palate.cli.console import emit, next_steps, say


def join(out: Path, /, *snapshots: Path, json: Flag = False) -> None:
    """Make one snapshot of several, such as what an audit left and its answered queue.

    The same record is in it once, and one without a label is left out where
    the pair has a label now. Pictures are checked; no old snapshot is touched.

    Args:
        out: The folder of the new snapshot.
        snapshots: The frozen snapshots; where two records differ only in notes, the first one's.
        json: Print JSON and nothing else.
    """
    from palate.data.join import join as make

    made = make(snapshots, out)
    if json:
        emit({"path": made.snapshot.path, "digest": made.snapshot.digest, **made.asdict()})
        return
    say(f"{out}: {made.kept:,} of {made.before:,} records")
    if made.same:
        say(f"{made.same:,} were there already")
    if made.answered:
        say(f"{made.answered:,} without a label were left out: their pairs have one now")
    next_steps(
        f"palate data show {out}", f"palate train --model shipped --data {out} --out runs/joined"
    )
