"""`palate users embed` and `identify`: people as embeddings, and whether these tell them apart."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, final

from cyclopts import Parameter

from palate.cli.app import Flag
from palate.cli.console import Bar, emit, next_steps, note, say, table
from palate.core.problems import SettingError, require

if TYPE_CHECKING:
    from palate.evaluate.identify import Identified
    from palate.scorers.users import UserEncoder


@final
@dataclass(frozen=True, slots=True)
class Maker:
    """Who makes embeddings of people.

    Args:
        weights: A run that was trained with people: its own encoder, as it was in training.
        by: Or an encoder: looks, clip:FOLDER, vision:FOLDER or taste:FOLDER.
        examples: Pairs that an embedding is made of; those of the run unless told, or 4.
        pooling: How it joins what it sees; its own way unless told.
        layer: Whose hidden states a vision model gives: the number of a layer, such as 21, or a
            share of its layers with a point, such as 0.75.
        prompt: What a vision model is told.
        device: Where it computes: auto, cpu, cuda or mps.
    """

    weights: Path | None = None
    by: str | None = None
    examples: int | None = None
    pooling: str | None = None
    layer: str | None = None
    prompt: str | None = None
    device: str = "auto"

    def open(self) -> "tuple[UserEncoder, int]":
        """The encoder, and how many pairs it is shown.

        Raises:
            SettingError: when none is named, or two.
            WeightsError: when its folder cannot be used.
        """
        require(
            (self.weights is None) != (self.by is None),
            got="--weights and --by" if self.by else "neither --weights nor --by",
            need="one of them: embeddings of different encoders cannot be mixed",
            fix="Name the run that will draw with --weights, or an encoder as in --by looks",
        )
        return self._of_a_run() if self.by is None else self._by(self.by)

    def _by(self, words: str) -> "tuple[UserEncoder, int]":
        from palate.cli.named import device_named
        from palate.train.personal import LEARNED
        from palate.train.users import check_encoder, open_user_encoder

        check_encoder(words)
        require(
            words != LEARNED,
            got="--by learned",
            need="an encoder that makes an embedding of pairs",
            fix="Use looks, clip:FOLDER, vision:FOLDER or taste:FOLDER: learned vectors are those "
            "of a run's own people.",
        )
        count = 4 if self.examples is None else self.examples
        encoder = open_user_encoder(
            words,
            pooling=self.pooling,
            layer=None if self.layer is None else _layer(self.layer),
            prompt=self.prompt,
            examples=count,
            device=device_named(self.device),
        )
        return encoder, count

    def _of_a_run(self) -> "tuple[UserEncoder, int]":
        from palate.cli.named import device_named, trained
        from palate.train.finder import Finder

        told = {"pooling": self.pooling, "layer": self.layer, "prompt": self.prompt}
        given = [f"--{name}" for name, value in told.items() if value is not None]
        require(
            not given,
            got=f"{', '.join(given)} with --weights",
            need="the encoder as it was in training",
            fix="Leave them out, or name an encoder with --by.",
        )
        assert self.weights is not None  # or there is --by
        folder = trained(self.weights, "any")[1]
        if folder is None:
            raise SettingError(
                got=f"{self.weights}, a whole model",
                need="a run that was trained with people, or its export",
                fix="Train one with: palate train --method ppd",
            )
        find = Finder.of(folder, device=device_named(self.device))
        return find.encoder(), find.examples if self.examples is None else self.examples


By = Annotated[Maker, Parameter(name="*")]
_NOBODY = Maker()


def embed(
    snapshot: Path,
    /,
    *,
    out: Path,
    user: str | None = None,
    maker: By = _NOBODY,
    json: Flag = False,
) -> None:
    """Make an embedding of somebody's pairs, in a small file to draw for them with.

    Ties and pairs that contradict each other are left out. Of somebody with more
    pairs than are wanted, the same ones are drawn every time.

    Args:
        snapshot: A frozen snapshot with their pairs.
        out: The new .safetensors file.
        user: Whose pairs; needed where the snapshot has several people.
        maker: Who makes it.
        json: Print JSON and nothing else.
    """
    from palate.train.embedding import embedding_of

    encoder, count = maker.open()
    made = embedding_of(encoder, snapshot, user=user, count=count)
    made.save(out)
    for sentence in made.notes:
        note(f"{made.user}: {sentence}.")
    if json:
        emit(
            {
                "path": out,
                "user": made.user,
                "examples": list(made.examples),
                "encoder": encoder.name,
                "identity": made.identity,
                "shape": list(made.embedding.shape),
            }
        )
        return
    many = "1 pair" if len(made.examples) == 1 else f"{len(made.examples)} pairs"
    say(f"{out}: {made.user} by {many}, {encoder.name} {made.identity[:12]}")
    run = maker.weights or "RUN"
    next_steps(f"palate sample --weights {run} --user {out} --prompts prompts.txt --out theirs")


def identify(
    snapshot: Path,
    /,
    *,
    k: str = "1,5,16",
    subsets: int = 4,
    seed: int = 0,
    maker: By = _NOBODY,
    json: Flag = False,
) -> None:
    """Ask whether embeddings know people again: everyone's among everybody's, from other pairs.

    Each user's pairs are taken apart into two sides that share no prompt and no
    picture. Users with too few pairs for that are left out. Chance is K of all
    users; intervals are at 95 %, with the user as the unit.

    Args:
        snapshot: A frozen snapshot of many people's pairs.
        k: How many places count as found; those that all users fit into are left out.
        subsets: Subsets of each side that the probe learns from and is asked about; 1 is none.
        seed: Which pairs are on which side.
        maker: Who makes embeddings.
        json: Print JSON and nothing else.
    """
    from palate.data.pairs import PreferencePairs
    from palate.evaluate.identify import identify as nearest_to
    from palate.evaluate.identify import probe
    from palate.evaluate.sides import two_sides

    places = _numbers(k)
    encoder, count = maker.open()
    pairs = PreferencePairs.open(snapshot)
    with Bar("users") as bar:
        sides = two_sides(
            encoder, pairs, examples=count, subsets=subsets, seed=seed, progress=bar.at
        )
    _check_places(places, len(sides.users))
    found = [nearest_to(sides.first[:, 0], sides.second[:, 0], at=places)]
    if sides.first.shape[1] > 1:
        found.append(probe(sides.first, sides.second, at=places))
    if json:
        emit(
            {
                "users": len(sides.users),
                "left_out": sides.left_out,
                "examples": count,
                "encoder": encoder.name,
                "identity": encoder.identity,
                "found": [each.to_json() for each in found],
            }
        )
        return
    say(f"{len(sides.users):,} users by {count} pairs each, {encoder.name} {encoder.identity[:12]}")
    if sides.left_out:
        say(f"{sides.left_out:,} users left out: too few pairs for two sides of {count}")
    say()
    table(("how", "among the first", "found", "by chance"), _places(found))


def _places(found: "list[Identified]") -> list[tuple[str, str, str, str]]:
    return [
        (each.how, f"{places}", str(share), f"{each.chance[places]:.3g}")
        for each in found
        for places, share in each.found.items()
    ]


def _layer(words: str) -> int | float:
    """A number of a layer, or a share of the layers where there is a point in it."""
    try:
        return float(words) if "." in words else int(words)
    except ValueError as error:
        raise SettingError(
            got=f"--layer {words}",
            need="the number of a layer, or a share of the layers",
            fix="Write for example --layer 21 or --layer 0.75",
        ) from error


def _check_places(places: list[int], users: int) -> None:
    """Say which places are dropped, since everybody fits into them; refuse where none is left."""
    dropped = ", ".join(str(each) for each in places if each >= users)
    require(
        any(each < users for each in places),
        got=f"--k {dropped} with {users} users that can be asked about",
        need=f"a number of places below {users}: among so many everybody is found",
        fix="Write for example --k 1",
    )
    if dropped:
        note(f"Among the first {dropped} everybody of {users} users is found: left out.")


def _numbers(words: str) -> list[int]:
    parts = words.split(",")
    require(
        all(part.strip().isdecimal() and int(part) > 0 for part in parts),
        got=f"--k {words}",
        need="whole numbers from 1 on, with commas between them",
        fix="Write for example --k 1,5,16",
    )
    return [int(part) for part in parts]
