"""DeDPO: the printed numbers, the unbiased average, and targets outside [0, 1]."""

import itertools
import math

import pytest
import torch

from palate.core.contrast import Contrast
from palate.core.problems import SettingError
from palate.objectives import DPO, DeDPO

LOGITS = [1.5, -1.5, 0.5, 0.0]


def pairs(agreement, synthetic, correction) -> Contrast:
    return Contrast.from_errors(
        [0.100, 0.120, 0.080, 0.150],
        [0.101, 0.119, 0.0805, 0.150],
        [0.110, 0.090, 0.130, 0.140],
        [0.1095, 0.0905, 0.1300, 0.1400],
        agreement,
        facts={"synthetic": synthetic, "correction": correction},
    )


def golden() -> Contrast:
    """Two of four labelled, 1 and 0, so that n/n_l = 2; the other labels are never read."""
    return pairs([1.0, 0.0, 0.123, 0.987], [0.8, 0.7, 0.6, 0.3], [2.0, 2.0, 0.0, 0.0])


def test_the_golden_vector_as_printed():
    """Targets 0.8 + 2 · 0.2 = 1.2, 0.7 − 2 · 0.7 = −0.7, 0.6 and 0.3; mean loss 0.105013."""
    verdict = DeDPO(beta=2000.0)(golden())
    assert verdict.extras["target"].tolist() == pytest.approx([1.2, -0.7, 0.6, 0.3], abs=1e-12)
    assert round(float(verdict.loss.mean()), 6) == 0.105013


def test_each_pair_by_hand_to_ten_digits():
    """softplus(m) − w̃ · m."""
    expected = [
        math.log1p(math.exp(m)) - w * m for m, w in zip(LOGITS, [1.2, -0.7, 0.6, 0.3], strict=True)
    ]
    assert DeDPO()(golden()).loss.tolist() == pytest.approx(expected, abs=1e-10)


def test_the_slope_is_the_printed_one():
    """dℓ/dm / n = (σ(m) − w̃)/4; an error of the chosen image moves m by −1000."""
    policy = torch.tensor([0.100, 0.120, 0.080, 0.150], dtype=torch.float64, requires_grad=True)
    known = golden()
    moving = Contrast.from_errors(
        policy,
        known.chosen.reference_error,
        known.rejected.error,  # pyright: ignore[reportOptionalMemberAccess]
        known.rejected.reference_error,  # pyright: ignore[reportOptionalMemberAccess]
        known.agreement,
        facts=dict(known.facts),
    )
    DeDPO()(moving).loss.mean().backward()
    assert policy.grad is not None
    slopes = [round(float(value) / -1000, 6) for value in policy.grad]
    assert slopes == [-0.095606, 0.220606, 0.005615, 0.05]


def test_averaged_over_which_pairs_are_labelled_it_is_dpo_on_all_labels():
    """Proposition 1, exactly: all six ways to label two of four, whatever the machine says."""
    labels = [1.0, 0.0, 1.0, 1.0]
    machine = [0.1, 0.9, 0.4, 0.2]
    losses = []
    for labelled in itertools.combinations(range(4), 2):
        correction = [2.0 if i in labelled else 0.0 for i in range(4)]
        known = [labels[i] if i in labelled else 0.5 for i in range(4)]
        losses.append(float(DeDPO()(pairs(known, machine, correction)).loss.mean()))
    human = float(DPO()(pairs(labels, machine, [0.0] * 4)).loss.mean())
    assert sum(losses) / len(losses) == pytest.approx(human, abs=1e-12)
    assert max(losses) - min(losses) > 0.1


def test_turning_pair_label_and_machine_round_changes_nothing():
    known = golden()
    turned = known.swap()
    machine = {**known.facts, "synthetic": 1 - known.facts["synthetic"]}
    again = Contrast(
        chosen=turned.chosen,
        rejected=turned.rejected,
        agreement=turned.agreement,
        facts=machine,
    )
    torch.testing.assert_close(DeDPO()(again).loss, DeDPO()(known).loss, rtol=1e-12, atol=1e-12)


def test_hard_synthetic_labels_are_rounded_and_ties_stay_ties():
    found = DeDPO(hard=True)(pairs([1.0] * 4, [0.8, 0.2, 0.5, 0.51], [0.0] * 4))
    assert found.extras["target"].tolist() == [1.0, 0.0, 0.5, 1.0]


def test_beyond_the_clip_there_is_no_gradient_and_no_reward():
    """A target of 1.2 pays for ever; a clip of 1 stops it."""
    policy = torch.tensor([0.0985] * 4, dtype=torch.float64, requires_grad=True)
    same = torch.full_like(policy, 0.1, requires_grad=False)
    facts = {"synthetic": [0.8] * 4, "correction": [2.0] * 4}
    near = Contrast.from_errors(policy, same, same, same, facts=facts)
    held = DeDPO(clip=1.0)(near)
    held.loss.sum().backward()
    assert policy.grad is not None
    assert policy.grad.tolist() == [0.0] * 4
    assert held.loss.tolist() == pytest.approx([math.log1p(math.e) - 1.2] * 4, abs=1e-12)
    assert held.extras["logit"].tolist() == pytest.approx([1.5] * 4)


def test_pairs_without_the_facts_are_refused():
    bare = Contrast.from_errors([0.1], [0.1], [0.1], [0.1])
    with pytest.raises(SettingError, match=r"Got pairs without synthetic"):
        DeDPO()(bare)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"beta": -1.0}, r"Got beta=-1\.0\. Need beta > 0"),
        ({"clip": 0.0}, r"Got clip=0\.0\. Need clip > 0\. Leave it out"),
    ],
)
def test_settings_that_cannot_be_used_say_what_to_do(settings, words):
    with pytest.raises(SettingError, match=words):
        DeDPO(**settings)
