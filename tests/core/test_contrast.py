"""Branches and contrasts: the numbers a person can check."""

import pytest
import torch

from palate.core.contrast import Contrast, Denoised, Measured, mean_square
from palate.core.problems import SettingError


def test_a_margin_by_hand():
    """Chosen: 0.5 → 0.3 gains 0.2. Rejected: 0.5 → 0.6 gains −0.1. The margin is 0.3."""
    pairs = Contrast.from_errors([0.3], [0.5], [0.6], [0.5])
    assert float(pairs.chosen.gain) == pytest.approx(0.2)
    assert float(pairs.margin) == pytest.approx(0.3)


def test_from_errors_reads_lists_as_float64_and_keeps_tensors():
    policy = torch.tensor([0.1, 0.2], requires_grad=True)
    pairs = Contrast.from_errors(policy, [0.1, 0.2], [0.1, 0.2], [0.1, 0.2])
    assert pairs.chosen.error.requires_grad
    assert pairs.agreement.tolist() == [1.0, 1.0]
    assert not pairs.agreement.requires_grad
    assert Contrast.from_errors([0.1], None, None, None).agreement.dtype == torch.float64


def test_one_label_for_each_pair_or_one_for_all():
    errors = [[0.1, 0.2]] * 4
    assert Contrast.from_errors(*errors, 0.75).agreement.tolist() == [0.75, 0.75]
    assert Contrast.from_errors(*errors, [1.0, 0.5]).agreement.tolist() == [1.0, 0.5]
    with pytest.raises(SettingError, match=r"Got agreement of shape \(3,\)\. Need shape \(2,\)"):
        Contrast.from_errors(*errors, [1.0, 0.5, 0.5])


@pytest.mark.usefixtures("shapes_unchecked")
def test_lists_of_different_lengths_are_refused():
    with pytest.raises(SettingError, match="policy_rejected"):
        Contrast.from_errors([0.1, 0.2], [0.1, 0.2], [0.1], [0.1])
    with pytest.raises(SettingError, match="reference"):
        Contrast.from_errors([0.1, 0.2], [0.1], [0.1, 0.2], [0.1, 0.2])


def test_turning_round_twice_changes_nothing():
    pairs = Contrast.from_errors([0.1, 0.2], [0.2, 0.1], [0.3, 0.1], [0.1, 0.1], [1.0, 0.75])
    turned = pairs.swap()
    torch.testing.assert_close(turned.margin, -pairs.margin)
    assert turned.agreement.tolist() == [0.0, 0.25]
    torch.testing.assert_close(turned.swap().margin, pairs.margin, rtol=0, atol=0)
    assert turned.swap().agreement.tolist() == pairs.agreement.tolist()


def test_a_margin_without_a_rejected_image_is_refused():
    pairs = Contrast(chosen=Measured(policy=torch.ones(2)), agreement=torch.ones(2))
    with pytest.raises(SettingError, match="evidence that was not collected"):
        pairs.margin  # noqa: B018


def test_a_reference_from_cached_errors_gives_the_same_margin():
    """What the cache stores is exactly what the live reference would have said."""
    generator = torch.Generator().manual_seed(0)
    guess, target, frozen = torch.randn(3, 5, 4, 8, 8, generator=generator)
    live = Denoised(prediction=guess, target=target, reference=frozen)
    cached = Measured(policy=mean_square(guess, target), reference=live.reference_error)
    assert torch.equal(live.gain, cached.gain)


def test_mean_square_widens_what_is_narrow_and_keeps_what_is_wide():
    for dtype, expected in [
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ]:
        assert mean_square(torch.ones(2, 3, dtype=dtype), torch.zeros(2, 3)).dtype == expected


def test_records_cannot_be_changed():
    pairs = Contrast.from_errors([0.1], [0.1], [0.1], [0.1])
    with pytest.raises(AttributeError):
        pairs.progress = 1.0  # pyright: ignore[reportAttributeAccessIssue]
