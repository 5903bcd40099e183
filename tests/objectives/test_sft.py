"""Supervised fine-tuning: the plain loss, and nothing about the other image."""

import torch

from palate.core.contrast import Contrast, Denoised, Measured
from palate.objectives import SFT


def test_one_pair_by_hand():
    """Off by 1 and by 3 in two elements: (1 + 9) / 2 = 5."""
    chosen = Denoised(prediction=torch.tensor([[1.0, 3.0]]), target=torch.zeros(1, 2))
    assert SFT()(Contrast(chosen=chosen, agreement=torch.ones(1))).loss.tolist() == [5.0]


def test_the_rejected_image_and_the_label_change_nothing():
    chosen = Measured(policy=torch.tensor([0.25, 0.5]))
    alone = Contrast(chosen=chosen, agreement=torch.ones(2))
    rejected = Measured(policy=torch.tensor([9.0, 9.0]))
    paired = Contrast(chosen=chosen, rejected=rejected, agreement=torch.tensor([0.5, 0.9]))
    assert SFT()(alone).loss.tolist() == SFT()(paired).loss.tolist() == [0.25, 0.5]


def test_its_start_depends_on_the_model():
    assert SFT().at_init() is None


def test_gradients_match_finite_differences():
    generator = torch.Generator().manual_seed(3)
    target = torch.randn(3, 2, 2, generator=generator, dtype=torch.float64)
    guess = torch.randn(3, 2, 2, generator=generator, dtype=torch.float64).requires_grad_()

    def loss(prediction: torch.Tensor) -> torch.Tensor:
        chosen = Denoised(prediction=prediction, target=target)
        return SFT()(Contrast(chosen=chosen, agreement=torch.ones(3))).loss

    assert torch.autograd.gradcheck(loss, (guess,), eps=1e-6, atol=1e-9, rtol=1e-6)
