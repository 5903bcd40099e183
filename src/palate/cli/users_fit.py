"""`palate users fit`: the directions in which people disagree, as an encoder of new people."""

from pathlib import Path

from palate.cli.app import Flag
from palate.cli.console import emit, next_steps, say


def fit(
    snapshot: Path,
    /,
    *,
    out: Path,
    by: str = "looks",
    dimensions: int = 4,
    ridge: float = 10.0,
    examples: int = 4,
    seed: int = 0,
    device: str = "auto",
    json: Flag = False,
) -> None:
    """Learn in which directions people disagree; new people are placed among them.

    Writes a folder that is an encoder of people: --personal.users taste:FOLDER.
    Says how well choices are foretold that were not learned from, with each
    person's own place and with what all share alone. Use pairs that are trained
    with, not those that people are judged by.

    Args:
        snapshot: A frozen snapshot with many people's pairs.
        out: The new folder.
        by: Who makes numbers of each choice: looks or clip:FOLDER.
        dimensions: How many directions; fewer than people.
        ridge: How strongly weights are held to zero.
        examples: Of how many pairs somebody is usually known.
        seed: Names every draw.
        device: Where pictures are looked at: auto, cpu, cuda or mps.
        json: Print JSON and nothing else.
    """
    from palate.cli.named import device_named
    from palate.data.pairs import PreferencePairs
    from palate.train.tastes import fit_tastes

    about = fit_tastes(
        PreferencePairs.open(snapshot),
        by,
        out,
        dimensions=dimensions,
        ridge=ridge,
        examples=examples,
        seed=seed,
        device=device_named(device),
    )
    if json:
        emit({"out": out, **about})
        return
    told = about["left_out_choices"]
    say(f"{dimensions} directions from {told['pairs']:,} choices of {told['people']:,} people")
    say(
        f"Choices left out of fitting are foretold in {told['own_accuracy']:.1%} with each "
        f"person's own place, in {told['shared_accuracy']:.1%} by what all share."
    )
    next_steps(
        f"palate train --model shipped --data {snapshot} --method ppd \\\n"
        f"    --personal.users taste:{out} --out runs/ppd"
    )
