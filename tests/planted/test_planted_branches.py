"""Known bugs in branches, each of which must make the branch contract fail."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from contracts.branch_contract import CHECKS
from contracts.verdicts import failing
from palate.core.contrast import Branch, Denoised


@dataclass(kw_only=True)
class Planted(Branch):
    """A branch without any guard; the bugs are in how it measures."""

    prediction: Tensor
    target: Tensor
    reference: Tensor

    def measure(self, guess: Tensor) -> Tensor:
        return (guess.double() - self.target.double()).square().flatten(1).mean(1)

    @property
    def error(self) -> Tensor:
        return self.measure(self.prediction)

    @property
    def reference_error(self) -> Tensor:
        return self.measure(self.reference)

    @property
    def gain(self) -> Tensor:
        return self.reference_error - self.error


class Half(Planted):
    def measure(self, guess: Tensor) -> Tensor:
        return (guess - self.target).square().flatten(1).mean(1)


class Late(Planted):
    """Widens after the subtraction, which is too late."""

    def measure(self, guess: Tensor) -> Tensor:
        return (guess - self.target).float().square().flatten(1).mean(1)


class Summed(Planted):
    def measure(self, guess: Tensor) -> Tensor:
        return (guess - self.target).square().flatten(1).sum(1)


class Backwards(Planted):
    @property
    def gain(self) -> Tensor:
        return self.error - self.reference_error


class Frozen(Planted):
    @property
    def error(self) -> Tensor:
        return self.measure(self.prediction.detach())


class Jittered(Planted):
    """The reference is not asked in the same way as the policy."""

    @property
    def reference_error(self) -> Tensor:
        return self.measure(self.reference.float() + 1e-4)


def builder(kind: type[Planted]):
    """A branch kind with the real guards but a planted measure."""

    def build(prediction: Tensor, target: Tensor, reference: Tensor) -> Branch:
        Denoised(prediction=prediction, target=target, reference=reference)
        return kind(prediction=prediction, target=target, reference=reference)

    return build


@pytest.mark.parametrize("kind", [Half, Late, Summed, Backwards, Frozen, Jittered])
def test_the_contract_catches_a_wrong_measure(kind):
    assert failing(CHECKS, builder(kind))


def test_the_contract_catches_a_reference_that_learns_and_a_shape_that_broadcasts():
    def unguarded(prediction, target, reference):
        return Planted(prediction=prediction, target=target, reference=reference)

    found = failing(CHECKS, unguarded)
    assert "check_a_reference_with_a_gradient_is_refused" in found
    assert "check_shapes_that_would_broadcast_are_refused" in found


def test_a_gradient_in_the_reference_would_change_what_is_learned():
    """Why it is refused: the two gradients cancel and the policy learns nothing at all."""
    shared = torch.zeros(1, 3, requires_grad=True)
    Planted(prediction=shared, target=torch.ones(1, 3), reference=shared).gain.sum().backward()
    assert shared.grad is not None
    assert shared.grad.tolist() == [[0.0, 0.0, 0.0]]
