"""`palate data label-part`: few people's labels beside many of a machine's."""

import math
from pathlib import Path

from palate.cli.app import Flag
from palate.cli.console import Bar, emit, next_steps, say


def label_part(
    snapshot: Path,
    out: Path,
    /,
    *,
    share: float = 0.25,
    seed: int = 0,
    scorer: str | None = None,
    sharpness: float | None = 1.0,
    device: str = "auto",
    json: Flag = False,
) -> None:
    """Keep people's labels on a random part of the pairs, and put a machine's on all of them.

    The other labels are hidden, not changed: the snapshot they came from stays
    as it is. The new one records that the part was drawn at random, which
    `palate train --method dedpo` needs to know.

    Args:
        snapshot: A frozen snapshot.
        out: The folder of the new snapshot.
        share: The part of the pairs that keeps people's labels.
        seed: Which part that is.
        scorer: Who labels all pairs: world, world:PART or clip:FOLDER; none adds no labels.
        sharpness: What differences of scores are multiplied by; `none` gives hard labels.
        device: Where the scorer computes: auto, cpu, cuda or mps.
        json: Print JSON and nothing else.
    """
    from palate.cli.named import device_named
    from palate.core.files import digest_json
    from palate.core.problems import require
    from palate.data.part import Machine
    from palate.data.part import label_part as make
    from palate.data.synthetic import manner
    from palate.train.scoring import open_scorer

    require(
        sharpness is None or (sharpness > 0 and math.isfinite(sharpness)),
        got=f"--sharpness {sharpness}",
        need="a number above 0, or none",
        fix="Use 1 for the scores' own unit, or none for hard labels.",
    )
    machine = None
    if scorer is not None:
        opened = open_scorer(scorer, device=device_named(device))
        judge = f"{opened.name} {digest_json(opened.identity)[:12]} {manner(sharpness)}"
        machine = Machine(judge=judge, score=opened.score, sharpness=sharpness)
    with Bar("pictures scored") as bar:
        part = make(snapshot, out, share=share, seed=seed, machine=machine, told=bar.at)
    facts = {
        "path": part.snapshot.path,
        "digest": part.snapshot.digest,
        "pairs": part.pairs,
        "people": part.people,
        "machine": part.machine,
        "agree": part.agree,
    }
    if json:
        emit(facts)
        return
    say(
        f"{out}: {part.pairs:,} pairs, {part.people:,} with people's labels, "
        f"{part.machine:,} with a machine's"
    )
    if part.agree is not None:
        say(f"where both preferred a picture, it is the same one in {100 * part.agree:.0f} %")
    next_steps(
        f"palate data show {out}",
        f"palate train --model shipped --data {out} --method dedpo --out runs/dedpo",
    )
