"""`palate data label-part`: few people's labels beside many of a machine's."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from palate.cli.app import Flag
from palate.cli.console import Bar, emit, next_steps, say
from palate.core.problems import require

if TYPE_CHECKING:
    from palate.data.part import Part
    from palate.data.worth import Worth

FIT = "fit"


def label_part(
    snapshot: Path,
    out: Path,
    /,
    *,
    share: float = 0.25,
    seed: int = 0,
    scorer: list[str] | None = None,
    sharpness: float | Literal["fit"] | None = 1.0,
    device: str = "auto",
    json: Flag = False,
) -> None:
    """Keep people's labels on a random part of the pairs, and put a machine's on all of them.

    The other labels are hidden, not changed: the snapshot they came from stays
    as it is. The new one records that the part was drawn at random, which
    `palate train --method dedpo` needs to know, and what the machine's labels
    are worth where people's can be held against them.

    Args:
        snapshot: A frozen snapshot.
        out: The folder of the new snapshot.
        share: The part of the pairs that keeps people's labels.
        seed: Which part that is.
        scorer: Who labels all pairs, as `palate scorer --help` names them; give it again for
            more; without one, machines' labels that are there stay.
        sharpness: What differences of scores are multiplied by; `none` gives hard labels; `fit`
            tunes one labeler on people's labels, each pair's answer from a fit on other prompts.
        device: Where the scorer computes: auto, cpu, cuda or mps.
        json: Print JSON and nothing else.
    """
    from palate.cli.named import machine_named
    from palate.data.part import label_part as make

    require(
        sharpness is None or sharpness == FIT or (sharpness > 0 and math.isfinite(sharpness)),
        got=f"--sharpness {sharpness}",
        need="a number above 0, none or fit",
        fix="Use 1 for the scores' own unit, none for hard labels, fit to tune on people's labels.",
    )
    tuned, fixed = sharpness == FIT, None if isinstance(sharpness, str) else sharpness
    machines = [
        machine_named(words, device, sharpness=fixed, signed=not tuned) for words in scorer or ()
    ]
    with Bar("pictures scored") as bar:
        part = make(
            snapshot, out, share=share, seed=seed, machine=machines, tuned=tuned, told=bar.at
        )
    if json:
        emit(_facts(part))
        return
    _tell(out, part)
    next_steps(
        f"palate data show {out}",
        f"palate train --model shipped --data {out} --method dedpo --out runs/dedpo",
    )


def _facts(part: "Part") -> dict[str, Any]:
    return {
        "path": part.snapshot.path,
        "digest": part.snapshot.digest,
        "pairs": part.pairs,
        "people": part.people,
        "machine": part.machine,
        "agree": part.agree,
        "labelers": [each.asdict() for each in part.worths],
    }


def _tell(out: Path, part: "Part") -> None:
    """What was made, in a few lines."""
    say(
        f"{out}: {part.pairs:,} pairs, {part.people:,} with people's labels, "
        f"{part.machine:,} with a machine's"
    )
    if part.agree is not None:
        say(f"where both preferred a picture, it is the same one in {100 * part.agree:.0f} %")
    for worth in part.worths:
        _tell_worth(worth)


def _tell_worth(worth: "Worth") -> None:
    """What a machine's labels are worth, in a few lines."""
    say(f"{worth.judge}, held against people on {worth.labelled:,} pairs:")
    if worth.accuracy is not None:
        say(f"  prefers the picture people prefer: {worth.accuracy}")
    say(f"  people agree less (−) or more (+) than it is sure: {worth.surplus}")
    for word, leaning in worth.leanings.items():
        say(f"  people like the picture that is {word} more than it says by {leaning}")
    say(f"  squared error {worth.brier}; a coin's {worth.coin:.3g}")
    say(f"  {worth.verdict}")
