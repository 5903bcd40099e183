"""Drawing for several users, and letting each of them judge what was drawn for everyone.

The starting noise of a picture is a function of (seed, prompt, number), as in any evaluation
here. Whatever differs between two users' pictures of one noise therefore comes from who they were
drawn for.

Read next: `personal.py`, what follows from it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from palate.backbones.backbone import Backbone
from palate.backbones.listening import Listening
from palate.backbones.sample import Sampler, sample, starting_noise
from palate.core.plain import plain
from palate.core.problems import DataError, require, unknown
from palate.evaluate.drift import broken
from palate.scorers.scorer import Scorer

Array = NDArray[np.float64]
Progress = Callable[[str, int, int], None]
BATCH: Final = 32


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Crossed:
    """Each user's rewards of what was drawn for every user.

    A reward that is not finite is a broken picture's: it loses every comparison.

    Attributes:
        users: Their names.
        prompts: The prompt of each picture [p]; a prompt may have several pictures.
        personal: Reward by user u of the p-th picture drawn for user v, [u, v, p].
        base: Reward by user u of the base model's pictures from the same noise, [u, p].
        pooled: The same of a model of everybody's pairs without users; None where there is none.

    Raises:
        DataError: when the shapes do not belong together.
    """

    users: tuple[str, ...]
    prompts: tuple[str, ...]
    personal: Float[np.ndarray, " u v p"]
    base: Float[np.ndarray, " u p"]
    pooled: Float[np.ndarray, " u p"] | None = None

    def __post_init__(self) -> None:
        users, pictures = len(self.users), len(self.prompts)
        flat = {"base": self.base} | ({} if self.pooled is None else {"pooled": self.pooled})
        wrong = [name for name, table in flat.items() if table.shape != (users, pictures)]
        wrong += ["personal"] if self.personal.shape != (users, users, pictures) else []
        require(
            users > 0 and pictures > 0 and not wrong,
            got=f"{users} users, {pictures} pictures and other shapes in {', '.join(wrong)}",
            need="personal [users, users, pictures], base and pooled [users, pictures]",
            fix="Draw with `draw_crossed`, or cut with `only`.",
            kind=DataError,
        )

    @property
    def own(self) -> Array:
        """Each user's rewards of their own pictures, [u, p]."""
        return self.personal[np.arange(len(self.users)), np.arange(len(self.users))]

    def others(self, table: Array) -> Array:
        """What a table [u, v, p] says of everybody else's pictures, as one value per user: [u, p].

        The mean over users is that over all u ≠ v. A user is in it twice, as the judge of others'
        pictures and as somebody whose pictures others judge, so that a user's value is not the
        mean of their row: it is Tukey's pseudo-value, U times the mean with them minus U - 1 times
        the mean without them. Its spread over users is what other users would change.
        """
        users = len(self.users)
        off = np.where(np.eye(users, dtype=bool)[:, :, None], 0.0, table)
        mean = off.sum(axis=(0, 1)) / (users * (users - 1))
        if users == 2:
            # Without either of two there is nobody else: no spread can be told from these rows.
            return np.stack([mean, mean])
        both = (off.sum(axis=1) + off.sum(axis=0)) / (users - 1)
        return mean + (both - 2 * mean) * (users - 1) / (users - 2)

    @property
    def whole(self) -> NDArray[np.bool_]:
        """Of which prompt and noise everybody's picture has a finite reward, [p]."""
        tables = [self.base, self.personal.reshape(-1, len(self.prompts))]
        tables += [] if self.pooled is None else [self.pooled]
        return np.asarray(np.isfinite(np.concatenate(tables)).all(axis=0))

    @property
    def without_reward(self) -> dict[str, int]:
        """How many pictures nobody could give a finite reward: for users, base and pooled."""
        found = {"personal": self.personal, "base": self.base}
        found |= {} if self.pooled is None else {"pooled": self.pooled}
        return {name: int((~np.isfinite(all_)).all(axis=0).sum()) for name, all_ in found.items()}

    def only(self, users: Sequence[str]) -> "Crossed":
        """Some of the users, shuffled among themselves.

        Raises:
            SettingError: for a user who is not there.
        """
        for name in users:
            if name not in self.users:
                raise unknown("user", name, self.users)
        rows = np.array([self.users.index(name) for name in users])
        return Crossed(
            users=tuple(users),
            prompts=self.prompts,
            personal=self.personal[np.ix_(rows, rows)],
            base=self.base[rows],
            pooled=None if self.pooled is None else self.pooled[rows],
        )

    def to_json(self) -> dict[str, Any]:
        """The measurements as plain values; what is not finite is null."""
        return {
            "users": list(self.users),
            "prompts": list(self.prompts),
            "personal": plain(self.personal.tolist()),
            "base": plain(self.base.tolist()),
            "pooled": None if self.pooled is None else plain(self.pooled.tolist()),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Crossed":
        """Read measurements back.

        Raises:
            DataError: when a part is missing or has another shape.
        """
        try:
            pooled = values["pooled"]
            return cls(
                users=tuple(values["users"]),
                prompts=tuple(values["prompts"]),
                personal=np.array(values["personal"], dtype=np.float64),
                base=np.array(values["base"], dtype=np.float64),
                pooled=None if pooled is None else np.array(pooled, dtype=np.float64),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                got=f"crossed rewards that cannot be read ({type(error).__name__}: {error})",
                need="what `Crossed.to_json` wrote",
                fix="Draw again.",
            ) from error


def draw_crossed(
    backbone: Backbone,
    embeddings: Mapping[str, Float[Tensor, " tokens width"]],
    tastes: Mapping[str, Scorer],
    prompts: Sequence[str],
    *,
    base: Backbone | None = None,
    pooled: Backbone | None = None,
    seed: int = 0,
    sampler: Sampler | None = None,
    strength: float = 1.0,
    pictures: int = 1,
    progress: Progress | None = None,
) -> Crossed:
    """Draw for everyone from the same noise, and let everyone judge everything.

    Args:
        backbone: The model that listens to users.
        embeddings: Each user's embedding.
        tastes: Each user's taste; the same users.
        prompts: What to draw, different ones.
        base: The model to be better than; None is the same model asked for nobody.
        pooled: A model trained on the same pairs without users, such as Diffusion-DPO's.
        seed: Seed of the starting noise.
        sampler: Steps, guidance and scheduler.
        strength: How strongly the user is listened to; see `Listening`.
        pictures: Pictures of each prompt.
        progress: Told (what, sets of pictures done, sets in all).

    Raises:
        SettingError: when embeddings and tastes are of different users, or a prompt repeats.
    """
    users = tuple(tastes)
    require(
        set(users) == set(embeddings) and len(set(prompts)) == len(prompts) and pictures >= 1,
        got=f"embeddings of {len(embeddings)} users, tastes of {len(users)}, "
        f"{len(prompts)} prompts ({len(set(prompts))} different), {pictures} pictures of each",
        need="one embedding and one taste per user, and prompts that differ",
        fix="Name the users alike in both, and ask for more pictures instead of repeating prompts.",
    )
    names = [(prompt, number) for prompt in prompts for number in range(pictures)]
    models: dict[str, Backbone] = {
        f"for {name}": Listening(backbone, embeddings[name], strength=strength) for name in users
    }
    models["base"] = backbone if base is None else base
    models |= {} if pooled is None else {"pooled": pooled}
    judged: dict[str, Array] = {}
    for done, (what, model) in enumerate(models.items(), start=1):
        drawn = drawn_from(model, names, seed, sampler or Sampler())
        judged[what] = np.stack([rewards(tastes[name], drawn, names) for name in users])
        if progress is not None:
            progress(what, done, len(models))
    return Crossed(
        users=users,
        prompts=tuple(prompt for prompt, _ in names),
        personal=np.stack([judged[f"for {name}"] for name in users], axis=1),
        base=judged["base"],
        pooled=judged.get("pooled"),
    )


def drawn_from(
    backbone: Backbone, names: Sequence[tuple[str, int]], seed: int, sampler: Sampler
) -> NDArray[np.uint8]:
    """One picture per (prompt, number), from the noise that these name: [p, h, w, 3]."""
    noise = starting_noise(backbone, names, seed)
    drawn = sample(backbone, [prompt for prompt, _ in names], noise, sampler, batch=BATCH)
    return drawn.cpu().numpy()


def rewards(
    taste: Scorer, images: NDArray[np.uint8], names: Sequence[tuple[str, int]]
) -> Float[np.ndarray, " p"]:
    """A taste's rewards, float64 [p]; NaN for a picture that is black or of one colour."""
    scores = np.asarray(taste.score(list(images), [prompt for prompt, _ in names]), np.float64)
    return np.where(broken(images), np.nan, scores)
