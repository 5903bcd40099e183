"""What an objective sees and says: two branches of evidence in, one loss per pair out.

A `Branch` is one side of a pair. Its one number is `gain`: how much better than the reference
the policy explains that image. A `Contrast` is a batch of pairs of branches with their labels;
its one number is `margin`, the chosen gain minus the rejected gain. A `Verdict` is the answer.

The subtraction of errors happens here and nowhere else, after an upcast: gains are differences
in the fourth decimal of numbers near 0.1, and bfloat16 has three digits.

Read next: `palate/objectives/dpo.py`, the smallest objective that uses all of this.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, TypeVar, final

import torch
from jaxtyping import Float
from torch import Tensor

from palate.core.path import Prediction
from palate.core.problems import SettingError, require

# Later than any warm-up: a formula tried on numbers is judged as in the middle of a training.
LATE = 1000
Numbers = Sequence[float] | Tensor
_T = TypeVar("_T")


class Branch(ABC):
    """One side of a pair, as evidence: how policy and reference each explain the same image."""

    __slots__ = ()

    @property
    @abstractmethod
    def error(self) -> Float[Tensor, " b"]:
        """The policy's mean squared error per image. Carries the gradient."""

    @property
    @abstractmethod
    def reference_error(self) -> Float[Tensor, " b"]:
        """The reference's mean squared error per image, without gradient."""

    @property
    @abstractmethod
    def gain(self) -> Float[Tensor, " b"]:
        """How much better than the reference the policy explains it: the implicit reward / β."""


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Denoised(Branch):
    """Evidence from one noised copy: what was predicted, not what it cost.

    Attributes:
        prediction: What the policy predicted, [b, …]. Carries the gradient.
        target: What it should have predicted, [b, …].
        reference: What the reference predicted, [b, …], or None where nobody asked it.
    """

    prediction: Float[Tensor, " b *shape"]
    target: Float[Tensor, " b *shape"]
    reference: Float[Tensor, " b *shape"] | None = None

    def __post_init__(self) -> None:
        _same_shape("prediction", self.prediction, self.target)
        if self.reference is not None:
            _same_shape("reference", self.reference, self.target)
            _without_gradient(self.reference)

    @property
    def error(self) -> Float[Tensor, " b"]:
        """The policy's mean squared error per image."""
        return mean_square(self.prediction, self.target)

    @property
    def reference_error(self) -> Float[Tensor, " b"]:
        """The reference's mean squared error per image."""
        return mean_square(_present(self.reference), self.target)

    @property
    def gain(self) -> Float[Tensor, " b"]:
        """Reference error minus policy error."""
        return self.reference_error - self.error


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Measured(Branch):
    """Evidence already reduced to errors: cached references, and formulas tried by hand.

    Attributes:
        policy: The policy's mean squared error per image, [b]. Carries the gradient.
        reference: The reference's mean squared error per image, [b], or None.
    """

    policy: Float[Tensor, " b"]
    reference: Float[Tensor, " b"] | None = None

    def __post_init__(self) -> None:
        if self.reference is not None:
            _same_shape("reference", self.reference, self.policy)
            _without_gradient(self.reference)

    @property
    def error(self) -> Float[Tensor, " b"]:
        """The policy's error, as given."""
        return _wide(self.policy)

    @property
    def reference_error(self) -> Float[Tensor, " b"]:
        """The reference's error, as given."""
        return _wide(_present(self.reference))

    @property
    def gain(self) -> Float[Tensor, " b"]:
        """Reference error minus policy error."""
        return self.reference_error - self.error


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Stepped(Branch):
    """Evidence from one sampled transition: log-probabilities of the step that was taken.

    A squared distance from a Gaussian's mean is minus twice its log-probability, so the step's
    error is that, and a gain is twice the log-ratio: one β then means the same on both kinds of
    evidence, and (β/2) · margin is β times the difference of log-ratios.

    Attributes:
        policy: The policy's log-probability of the step per image, averaged over elements, [b].
        reference: The reference's, [b], without gradient.
    """

    policy: Float[Tensor, " b"]
    reference: Float[Tensor, " b"]

    def __post_init__(self) -> None:
        _same_shape("reference", self.reference, self.policy)
        _without_gradient(self.reference)

    @property
    def error(self) -> Float[Tensor, " b"]:
        """Minus twice the step's log-probability under the policy."""
        return -2 * _wide(self.policy)

    @property
    def reference_error(self) -> Float[Tensor, " b"]:
        """Minus twice the step's log-probability under the reference."""
        return -2 * _wide(self.reference)

    @property
    def gain(self) -> Float[Tensor, " b"]:
        """Twice the log-ratio of policy to reference."""
        return self.reference_error - self.error

    def clipped(self, epsilon: float) -> "Stepped":
        """The same step with the ratio of policy to reference held within 1 ± epsilon.

        Outside the band there is no gradient: neither for a step that is likely enough already,
        nor for one that is unlikely enough.
        """
        reference = _wide(self.reference)
        ratio = (_wide(self.policy) - reference).clamp(math.log1p(-epsilon), math.log1p(epsilon))
        return Stepped(policy=reference + ratio, reference=reference)


def _alone(values: Float[Tensor, " b"]) -> Float[Tensor, ""]:
    """The mean over the pairs at hand."""
    return values.detach().mean()


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Contrast:
    """A batch of pairs as an objective sees it.

    Attributes:
        chosen: Evidence on the preferred images.
        rejected: Evidence on the others, or None for objectives that only read chosen images.
        agreement: Probability that the chosen image is the preferred one, [b], in [0, 1];
            1 for a hard label.
        level: The noise level each pair was judged at, as an index into the path, [b], or None.
        alpha: How much of the picture is left at that level, [b], or None.
        sigma: How much noise is in it, [b], or None.
        prediction: What the network predicts, and so the unit of the errors.
        averages: Margins of averaged policies on the same noised pictures, [b] each, without
            gradient; one per name in the objective's `needs.averages`.
        facts: Named numbers that come with the pairs, [b] each; those in `needs.facts`.
        step: How many optimizer steps were taken before this one.
        progress: How much of the run is done, in [0, 1].
        mean: The only collective an objective may use: a mean over the pairs of the whole
            optimizer step, in all its parts and processes, without gradient.
    """

    chosen: Branch
    rejected: Branch | None = None
    agreement: Float[Tensor, " b"]
    level: Tensor | None = None
    alpha: Float[Tensor, " b"] | None = None
    sigma: Float[Tensor, " b"] | None = None
    prediction: Prediction = "epsilon"
    averages: tuple[Float[Tensor, " b"], ...] = ()
    facts: Mapping[str, Tensor] = field(default_factory=lambda: MappingProxyType({}))
    step: int = 0
    progress: float = 0.0
    mean: Callable[[Tensor], Tensor] = field(default=_alone, repr=False)

    @property
    def margin(self) -> Float[Tensor, " b"]:
        """Chosen gain minus rejected gain, in units of mean squared error per element."""
        return self.chosen.gain - _present(self.rejected).gain

    def swap(self) -> "Contrast":
        """The same evidence with the two sides, and the label, turned round."""
        return replace(
            self,
            chosen=_present(self.rejected),
            rejected=self.chosen,
            agreement=1 - self.agreement,
            averages=tuple(-margin for margin in self.averages),
        )

    def fact(self, name: str) -> Float[Tensor, " b"]:
        """One of the numbers that come with the pairs.

        Raises:
            SettingError: when nobody collected it.
        """
        found = self.facts.get(name)
        require(
            found is not None,
            got=f"pairs without {name}",
            need=f"{name} for every pair",
            fix=f"Give facts={{'{name}': …}}; in a training, name it in the objective's `needs`.",
        )
        return _wide(_present(found))

    @classmethod
    def from_errors(
        cls,
        policy_chosen: Numbers,
        reference_chosen: Numbers | None,
        policy_rejected: Numbers | None,
        reference_rejected: Numbers | None,
        agreement: Numbers | float = 1.0,
        **others: object,
    ) -> "Contrast":
        """Pairs from four lists of per-image errors, to try a formula on numbers.

        Lists become float64; tensors keep their type and gradient. `agreement` is one number
        for all pairs, or one for each. `others` are further attributes of a contrast: `averages`
        and `facts` may hold lists too. The step is a late one, past the warm-up of methods that
        have one; give `step` for another.

        Raises:
            SettingError: when the lengths differ.
        """
        policy = _numbers(policy_chosen)
        labels = _numbers(agreement) if not isinstance(agreement, float | int) else None
        if labels is None:
            labels = torch.full_like(policy, float(agreement), requires_grad=False)  # pyright: ignore[reportArgumentType]
        _same_shape("agreement", labels, policy)
        rejected = None
        if policy_rejected is not None:
            losing = _numbers(policy_rejected)
            _same_shape("policy_rejected", losing, policy)
            rejected = Measured(policy=losing, reference=_maybe(reference_rejected))
        chosen = Measured(policy=policy, reference=_maybe(reference_chosen))
        averages: Any = others.pop("averages", ())
        facts: Any = others.pop("facts", {})
        others = {"step": LATE} | others
        others |= {
            "averages": tuple(_numbers(margin) for margin in averages),
            "facts": {name: _numbers(values) for name, values in facts.items()},
        }
        return cls(chosen=chosen, rejected=rejected, agreement=labels, **others)  # pyright: ignore[reportArgumentType]


@final
@dataclass(frozen=True, slots=True, kw_only=False, eq=False)
class Verdict:
    """What an objective says: one loss per pair, and whatever else it knows about each.

    Attributes:
        loss: One number per pair, [b]. The trainer takes the mean; an objective never does.
        extras: Named per-pair numbers worth logging, [b] each, without gradient.
    """

    loss: Float[Tensor, " b"]
    extras: Mapping[str, Tensor] = field(default_factory=lambda: MappingProxyType({}))


def mean_square(
    a: Float[Tensor, " b *shape"], b: Float[Tensor, " b *shape"]
) -> Float[Tensor, " b"]:
    """Upcast, then subtract: gains are small differences of large errors."""
    return (_wide(a) - _wide(b)).square().flatten(1).mean(1)


def _wide(values: Tensor) -> Tensor:
    """At least float32; float64 stays float64."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _present(value: _T | None) -> _T:
    """The value, or a clear refusal where an objective reads evidence nobody collected."""
    if value is None:
        raise SettingError(
            got="an objective that reads the reference or the rejected image",
            need="evidence that was not collected",
            fix="Declare it in the objective's `needs`, so that the trainer collects it.",
        )
    return value


def _numbers(values: Numbers) -> Tensor:
    if isinstance(values, Tensor):
        return values
    return torch.tensor(list(values), dtype=torch.float64)


def _maybe(values: Numbers | None) -> Tensor | None:
    return None if values is None else _numbers(values).detach()


def _same_shape(name: str, values: Tensor, like: Tensor) -> None:
    # A broadcast here would silently compare every image with every other.
    require(
        values.shape == like.shape,
        got=f"{name} of shape {tuple(values.shape)}",
        need=f"shape {tuple(like.shape)}",
        fix="Give both sides one entry per image, in the same order.",
    )


def _without_gradient(reference: Tensor) -> None:
    require(
        not reference.requires_grad,
        got="a reference that carries a gradient",
        need="a frozen reference",
        fix="Compute it under torch.no_grad().",
    )
