r"""The few directions in which people's choices disagree, and where among them somebody stands.

From the choices of the people a model is trained with, the directions in which they disagree are
learned. With the row d of a choice (chosen minus rejected, by some encoder), somebody chose as they
did with the chance

$$\sigma\bigl((m + V z_u)\cdot d\bigr), \qquad z_u \sim N(0, I),$$

a mixed logit model of low rank: m is what all share, the columns of V are the directions, and z is
the place of a person, a number per direction. All are found together as the most likely ones,
with a ridge of λ/2 (|m|² + |V|²); V is then turned so that its columns are the principal ones.
Somebody new is the most likely z of their few examples, which is nearer to zero the less these
say.

Read next: `users_taste.py`, which makes embeddings of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import logsigmoid

from palate.core.files import load_weights, read_about, save_weights
from palate.core.problems import DataError, WeightsError, require
from palate.core.streams import Streams

FILE: Final = "taste.safetensors"
_FORMAT: Final = 1
_FOLDS: Final = 5
_STEPS: Final = 300
_NEWTON: Final = 100
_SMALL: Final = 1e-10


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Space:
    """The directions in which people disagree.

    Attributes:
        unit: Usual size of the numbers of a row; rows are divided by it.
        shared: What all people weigh, [features].
        directions: What people weigh differently, [features, dimensions].
        usual: Root mean square of z among the people, each from a few examples.
    """

    unit: float
    shared: Float[Tensor, " features"]
    directions: Float[Tensor, " features dimensions"]
    usual: float = 1.0

    @property
    def dimensions(self) -> int:
        """How many directions."""
        return int(self.directions.shape[1])

    def place(self, rows: Float[Tensor, " n features"]) -> Float[Tensor, " dimensions"]:
        """The most likely z of somebody with these rows, by Newton's method; float64."""
        scaled = rows.double() / self.unit
        known, along = scaled @ self.shared, scaled @ self.directions
        identity = torch.eye(self.dimensions, dtype=torch.float64)

        def worth(place: Tensor) -> float:
            return float(logsigmoid(along @ place + known).sum() - 0.5 * place.square().sum())

        found = torch.zeros(self.dimensions, dtype=torch.float64)
        for _ in range(_NEWTON):
            wrong = torch.sigmoid(-(along @ found + known))
            slope = along.T @ wrong - found
            bend = (along.T * (wrong * (1 - wrong))) @ along + identity
            step, before = torch.linalg.solve(bend, slope), worth(found)
            # The function is concave with one maximum; a step that overshoots it is halved.
            while worth(found + step) < before and float(step.norm()) > _SMALL:
                step = step / 2
            found = found + step
            if float(step.norm()) <= _SMALL:
                break
        return found

    def chances(
        self, rows: Float[Tensor, " n features"], place: Float[Tensor, " dimensions"]
    ) -> Float[Tensor, " n"]:
        """How probable somebody's choices were."""
        weights = self.shared + self.directions @ place
        return torch.sigmoid(rows.double() / self.unit @ weights)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """How well choices that were not learned from are foretold; over five folds of each person's.

    Attributes:
        people: How many people there were.
        pairs: How many of their choices.
        shared_accuracy: Share foretold by what all share.
        own_accuracy: Share foretold with each person's own place, from their other choices.
        shared_loss: Mean of -log chance by what all share; a coin has 0.693.
        own_loss: The same with each person's own place.
    """

    people: int
    pairs: int
    shared_accuracy: float
    own_accuracy: float
    shared_loss: float
    own_loss: float


def fit(
    rows: Mapping[str, Float[Tensor, " n features"]],
    *,
    dimensions: int = 4,
    ridge: float = 10.0,
    examples: int = 4,
    seed: int = 0,
) -> Space:
    """The directions in which people disagree, from the rows of their choices.

    Args:
        rows: By person, the row of each of their examples.
        dimensions: How many directions.
        ridge: λ, in units of one choice.
        examples: Of how many examples a place is usually made; only its unit depends on it.
        seed: Names the draws that it begins with, and the usual examples.

    Raises:
        DataError: when there are fewer people than directions and one, or all rows are zero.
        SettingError: for numbers that are too small.
    """
    for name, value in (("dimensions", dimensions), ("examples", examples), ("ridge", ridge)):
        require(value > 0, got=f"{name}={value}", need=f"{name} above 0", fix="Leave it out.")
    people = sorted(rows)
    features = next(iter(rows.values())).shape[1] if rows else 0
    require(
        len(people) > dimensions and features >= dimensions,
        got=f"{len(people)} people and rows of {features} numbers for {dimensions} directions",
        need=f"more than {dimensions} people, and as many numbers",
        fix="Take fewer dimensions, or more people's pairs.",
        kind=DataError,
    )
    every = torch.cat([rows[name].double() for name in people])
    unit = float(every.square().mean().sqrt())
    require(
        unit > 0,
        got=f"{len(every)} choices between equal pictures",
        need="pictures that differ",
        fix="Use another encoder, which sees what differs.",
        kind=DataError,
    )
    counts = torch.tensor([len(rows[name]) for name in people])
    whose = torch.repeat_interleave(torch.arange(len(people)), counts)
    shared, directions, places = _likeliest(every / unit, whose, dimensions, ridge, seed)
    # What all places have in common belongs to what is shared.
    middle = places.mean(0)
    shared, places = shared + directions @ middle, places - middle
    # Places are alike in every direction beforehand, so turning them changes nothing: the columns
    # become the principal ones, each as long as it matters.
    left, sizes, _ = torch.linalg.svd(directions, full_matrices=False)
    space = Space(unit=unit, shared=shared, directions=_upright(left * sizes))
    few = [
        rows[name][torch.tensor(Streams(seed)("usual", name).permutation(len(rows[name])))][
            :examples
        ]
        for name in people
    ]
    usual = torch.stack([space.place(mine) for mine in few]).square().mean().sqrt()
    return Space(
        unit=unit, shared=shared, directions=space.directions, usual=max(float(usual), 1e-6)
    )


def foretold(
    rows: Mapping[str, Float[Tensor, " n features"]],
    *,
    dimensions: int = 4,
    ridge: float = 10.0,
    seed: int = 0,
) -> Told:
    """How well choices are foretold that were not learned from: with each person's place, without.

    Args:
        rows: By person, the row of each of their examples.
        dimensions: How many directions.
        ridge: λ.
        seed: Names the folds.

    Raises:
        DataError: as `fit`.
    """
    folds = {
        name: torch.tensor(Streams(seed)("taste fold", name).permutation(len(mine))) % _FOLDS
        for name, mine in rows.items()
    }
    shared, own = list[Tensor](), list[Tensor]()
    for fold in range(_FOLDS):
        kept = {name: mine[folds[name] != fold] for name, mine in rows.items()}
        space = fit(
            {name: mine for name, mine in kept.items() if len(mine)},
            dimensions=dimensions, ridge=ridge, seed=seed,
        )  # fmt: skip
        nobody = torch.zeros(space.dimensions, dtype=torch.float64)
        for name, mine in rows.items():
            asked = mine[folds[name] == fold]
            place = space.place(kept[name]) if len(kept[name]) else nobody
            shared.append(space.chances(asked, nobody))
            own.append(space.chances(asked, place))
    plain, personal = torch.cat(shared), torch.cat(own)
    return Told(
        people=len(rows),
        pairs=len(plain),
        shared_accuracy=float((plain > 0.5).double().mean()),
        own_accuracy=float((personal > 0.5).double().mean()),
        shared_loss=float(-plain.log().mean()),
        own_loss=float(-personal.log().mean()),
    )


def save(space: Space, folder: Path, about: Mapping[str, Any]) -> Path:
    """Write directions of taste into a folder.

    Args:
        space: The directions.
        folder: Where to.
        about: How they were made: `by`, the words that name the encoder of the rows, and `rows`,
            its identity; and whatever else is worth knowing.

    Raises:
        StateError: when the disk refuses.
    """
    sizes = torch.tensor([space.unit, space.usual], dtype=torch.float64)
    tensors = {"shared": space.shared, "directions": space.directions, "sizes": sizes}
    save_weights(folder / FILE, tensors, {"format": _FORMAT, **about})
    return folder / FILE


def read(folder: Path) -> tuple[Space, dict[str, Any]]:
    """The directions that `save` wrote into a folder, and what it says of how they were made.

    Raises:
        WeightsError: when there are none.
    """
    file = folder / FILE
    require(
        file.is_file(),
        got=f"{folder} without {FILE}",
        need="the folder of a taste space",
        fix="Make one: palate users fit TRAIN --by looks --out FOLDER",
        kind=WeightsError,
    )
    about, tensors = read_about(file), load_weights(file)
    wanted = {"shared": 1, "directions": 2, "sizes": 1}
    whole = {name: tensor.ndim for name, tensor in tensors.items()} == wanted
    require(
        whole and about.get("format") == _FORMAT and isinstance(about.get("by"), str),
        got=f"{file}, which does not hold directions of taste",
        need=f"{FILE} as palate writes it, format {_FORMAT}",
        fix="Make it again with palate users fit.",
        kind=WeightsError,
    )
    unit, usual = tensors["sizes"].double().tolist()
    space = Space(
        unit=unit,
        shared=tensors["shared"].double(),
        directions=tensors["directions"].double(),
        usual=usual,
    )
    return space, about


def _likeliest(
    rows: Float[Tensor, " n features"],
    whose: Int[Tensor, " n"],
    dimensions: int,
    ridge: float,
    seed: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Shared weights, directions and places that make the choices likeliest; float64."""
    streams, people = Streams(seed), int(whose.max()) + 1
    features = rows.shape[1]
    shared = torch.zeros(features, dtype=torch.float64, requires_grad=True)
    # Small draws: from zero, nothing would tell one direction from another.
    directions, places = (
        (0.3 * streams("taste", name).normal((size, dimensions)).double()).requires_grad_()
        for name, size in (("directions", features), ("places", people))
    )
    weights = [shared, directions, places]
    optimizer = torch.optim.LBFGS(weights, max_iter=_STEPS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        logit = ((shared + places[whose] @ directions.T) * rows).sum(1)
        penalty = ridge * (shared.square().sum() + directions.square().sum())
        loss = 0.5 * (penalty + places.square().sum()) - logsigmoid(logit).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return shared.detach(), directions.detach(), places.detach()


def _upright(directions: Float[Tensor, " features dimensions"]) -> Tensor:
    """Each column with its largest number positive: a direction has no sign of its own."""
    largest = directions.abs().argmax(0, keepdim=True)
    return directions * directions.gather(0, largest).sign()
