"""From one user's taste to another's: what each thinks of what lies between.

A user embedding is a point, and a mixture of two a point between them:
u(s) = (1 − s) · u_a + s · u_b (PPD, arXiv:2501.06655, says that it interpolates; that it does so
on the embeddings is RECONSTRUCTED). If the model really moves from one taste to the other, b's
reward rises and a's falls with every step of s.

That is asked of every step between neighbouring shares, on the same prompts and noise. To say
that a reward rises everywhere, each single step must be shown to rise, one-sided at 5 % each: no
correction is needed, because all of them must hold. To say that it falls somewhere, one step
suffices, and there Holm's correction pays for having looked at several.

Read next: `crossed.py`, users without anything between them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Self, final

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from palate.backbones.backbone import Backbone
from palate.backbones.listening import Listening
from palate.backbones.sample import Sampler
from palate.core.plain import plain
from palate.core.problems import DataError, require
from palate.core.stats import Estimate, cluster_mean, cluster_share
from palate.evaluate.crossed import Progress, drawn_from, rewards
from palate.evaluate.shares import ONE_SIDED, can_tell
from palate.scorers.scorer import Scorer

SHARES: Final = (0.0, 0.25, 0.5, 0.75, 1.0)
SHOWN: Final = 4
# A one-sided 5 % is one tail of a two-sided 90 %.
_ONE_SIDED: Final = 1 - 2 * ONE_SIDED
Course = Literal["rises", "falls somewhere", "open"]


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Slide:
    """Both users' rewards of pictures drawn for mixtures of the two.

    Attributes:
        names: The two users.
        shares: The second user's share of each mixture [s], rising.
        prompts: The prompt of each picture [p].
        reward_a: Rewards by the first user, [s, p]; NaN for a broken picture.
        reward_b: Rewards by the second.
        pictures: The pictures of the first prompts, to show: [s, shown, h, w, 3].
    """

    names: tuple[str, str]
    shares: tuple[float, ...]
    prompts: tuple[str, ...]
    reward_a: Float[np.ndarray, " s p"]
    reward_b: Float[np.ndarray, " s p"]
    pictures: UInt8[np.ndarray, " s shown h w 3"] | None = None

    def __post_init__(self) -> None:
        shape = (len(self.shares), len(self.prompts))
        rising = all(low < high for low, high in zip(self.shares, self.shares[1:], strict=False))
        require(
            len(self.shares) >= 2
            and rising
            and {self.reward_a.shape, self.reward_b.shape} == {shape},
            got=f"shares {self.shares} and rewards {self.reward_a.shape}, {self.reward_b.shape}",
            need="at least two rising shares, and for each a reward per picture",
            fix="Draw with `slide`.",
            kind=DataError,
        )

    def to_json(self) -> dict[str, Any]:
        """Everything but the pictures, as plain values; what is not finite is null."""
        tables = {"reward_a": self.reward_a, "reward_b": self.reward_b}
        return {
            "names": list(self.names),
            "shares": list(self.shares),
            "prompts": list(self.prompts),
        } | {name: plain(table.tolist()) for name, table in tables.items()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Read it back, without pictures."""
        first, second = values["names"]
        return cls(
            names=(first, second),
            shares=tuple(values["shares"]),
            prompts=tuple(values["prompts"]),
            reward_a=np.array(values["reward_a"], dtype=np.float64),
            reward_b=np.array(values["reward_b"], dtype=np.float64),
        )


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Monotony:
    """Whether a reward rises from share to share.

    Attributes:
        course: `rises` where every step is shown to rise; `falls somewhere` where one is shown to
            fall; `open` where neither is shown.
        steps: The rise of each step, with intervals that are one-sided at 95 %: two-sided 90 %.
        whole: The rise from the first share to the last, with a 95 % interval.
        unbroken: Share of pictures whose own reward falls at no step. It may be small where the
            mean rises surely: single pictures jump.
    """

    course: Course
    steps: tuple[Estimate, ...]
    whole: Estimate
    unbroken: Estimate


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """What a trade-off looks like on average.

    Attributes:
        shares: The second user's share of each mixture [s].
        first: The first user's mean reward at each, minus that of the second user's pictures.
        second: The second user's, minus that of the first user's pictures.
        falls: How the first user's reward falls: of the reward turned round.
        rises: How the second user's rises.
        unit: What the intervals speak of: `prompt` for one pair of users, `pair` for several.
        left_out: Pictures that were broken at some share, and are left out at all.
    """

    shares: tuple[float, ...]
    first: tuple[Estimate, ...]
    second: tuple[Estimate, ...]
    falls: Monotony
    rises: Monotony
    unit: str
    left_out: int


def slide(
    backbone: Backbone,
    a: Float[Tensor, " tokens width"],
    b: Float[Tensor, " tokens width"],
    shares: Sequence[float],
    tastes: tuple[Scorer, Scorer],
    prompts: Sequence[str],
    *,
    names: tuple[str, str] = ("a", "b"),
    seed: int = 0,
    sampler: Sampler | None = None,
    strength: float = 1.0,
    shown: int = SHOWN,
    progress: Progress | None = None,
) -> Slide:
    """Draw for every mixture of two users from the same noise, and let both judge.

    Args:
        backbone: The model that listens to users.
        a: The first user's embedding, drawn for where the share is 0.
        b: The second user's, drawn for where it is 1.
        shares: The second user's share of each mixture, rising.
        tastes: Both users' tastes.
        prompts: What to draw, different ones.
        names: What the users are called.
        seed: Seed of the starting noise.
        sampler: Steps, guidance and scheduler.
        strength: How strongly the user is listened to; see `Listening`.
        shown: Of how many prompts pictures are kept.
        progress: Told (what, shares done, shares in all).

    Raises:
        DataError: when there are not two rising shares, or no prompt.
    """
    asked = [(prompt, 0) for prompt in prompts]
    told: list[tuple[np.ndarray, np.ndarray]] = []
    kept: list[np.ndarray] = []
    for done, share in enumerate(shares, start=1):
        # The ends are the users themselves, to the bit.
        between = torch.lerp(a, b, share)
        drawn = drawn_from(
            Listening(backbone, between, strength=strength), asked, seed, sampler or Sampler()
        )
        told.append((rewards(tastes[0], drawn, asked), rewards(tastes[1], drawn, asked)))
        kept.append(drawn[:shown])
        if progress is not None:
            progress(f"{names[0]} to {names[1]}", done, len(shares))
    return Slide(
        names=names,
        shares=tuple(shares),
        prompts=tuple(prompts),
        reward_a=np.stack([first for first, _ in told]),
        reward_b=np.stack([second for _, second in told]),
        pictures=np.stack(kept) if shown else None,
    )


def curve(found: Slide | Sequence[Slide]) -> Curve:
    """The trade-off between two users, or between the users of several pairs.

    With one pair, the interval says what other prompts would give for these two users. With
    several, what other pairs would: pictures of one pair are averaged first.

    Raises:
        DataError: when there is nothing, shares differ, or every picture was broken somewhere.
    """
    slides = [found] if isinstance(found, Slide) else list(found)
    require(
        len({each.shares for each in slides}) == 1,
        got=f"{len(slides)} slides with {len({each.shares for each in slides})} sets of shares",
        need="at least one, all along the same shares",
        fix="Draw the same shares for every pair of users.",
        kind=DataError,
    )
    unit = "prompt" if len(slides) == 1 else "pair"
    first, second, clusters, left_out = [], [], [], 0
    for number, each in enumerate(slides):
        sound = np.isfinite(np.concatenate([each.reward_a, each.reward_b])).all(axis=0)
        left_out += int((~sound).sum())
        first.append(each.reward_a[:, sound])
        second.append(each.reward_b[:, sound])
        named = {"prompt": each.prompts, "pair": [number] * len(each.prompts)}[unit]
        clusters += [named[at] for at in np.flatnonzero(sound)]
    falling, rising = np.concatenate(first, axis=1), np.concatenate(second, axis=1)
    require(
        bool(clusters),
        got=f"{left_out} pictures, each broken at some share",
        need="pictures that are whole at every share",
        fix="Look at the pictures: the model fails before its taste can be judged.",
        kind=DataError,
    )
    return Curve(
        shares=slides[0].shares,
        first=tuple(cluster_mean(row, clusters) for row in falling - falling[-1]),
        second=tuple(cluster_mean(row, clusters) for row in rising - rising[0]),
        falls=monotony(-falling, clusters),
        rises=monotony(rising, clusters),
        unit=unit,
        left_out=left_out,
    )


def monotony(rewards: Float[np.ndarray, " s p"], clusters: Sequence[Any]) -> Monotony:
    """Whether rewards rise from each row to the next, judged by paired differences.

    Args:
        rewards: Finite rewards of the same pictures' prompts and noise at rising shares.
        clusters: What makes the columns independent: their prompts, or pairs of users.
    """
    rises = np.diff(rewards, axis=0)
    steps = tuple(cluster_mean(row, clusters, confidence=_ONE_SIDED) for row in rises)
    return Monotony(
        course=_course(rises, steps, clusters),
        steps=steps,
        whole=cluster_mean(rewards[-1] - rewards[0], clusters),
        unbroken=cluster_share((rises.min(axis=0) >= 0).astype(np.float64), clusters),
    )


def _course(
    rises: Float[np.ndarray, " k p"], steps: Sequence[Estimate], clusters: Sequence[Any]
) -> Course:
    """The verdict; open where even a sign test could not tell, however alike the differences."""
    if can_tell(steps[0].n) and all(step.low > 0 for step in steps):
        return "rises"
    # Holm's first step: one tail of this interval is 5 % divided by the number of steps.
    strict = 1 - (1 - _ONE_SIDED) / len(steps)
    held = (cluster_mean(row, clusters, confidence=strict) for row in rises)
    fallen = can_tell(steps[0].n, len(steps)) and any(step.high < 0 for step in held)
    return "falls somewhere" if fallen else "open"
