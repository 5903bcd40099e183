"""SmPO: labels scale the logit instead of averaging outcomes."""

import math

import pytest
import torch

from palate.core.contrast import Contrast
from palate.core.problems import SettingError
from palate.data.synthetic import agreement_of
from palate.objectives import DPO, SmPO


def pairs(agreement: float, margin: float = 0.0003) -> Contrast:
    return Contrast.from_errors([0.1 - margin], [0.1], [0.1], [0.1], agreement)


def test_one_pair_by_hand():
    """A label of 0.75: 10 · (2p − 1) = 5, times (β/2) · 0.0003 = 0.3 makes 1.5."""
    found = SmPO()(pairs(0.75))
    assert float(found.loss) == pytest.approx(math.log1p(math.exp(-1.5)), abs=1e-10)
    assert float(found.extras["logit"]) == pytest.approx(3.0, abs=1e-12)


def test_every_pair_is_scaled_by_its_own_label():
    """The released code takes the first pair's for all, right at a micro-batch of 1 only."""
    both = Contrast.from_errors([0.0997] * 2, [0.1] * 2, [0.1] * 2, [0.1] * 2, [0.75, 1.0])
    expected = [math.log1p(math.exp(-1.5)), math.log1p(math.exp(-3))]
    assert SmPO()(both).loss.tolist() == pytest.approx(expected, abs=1e-10)


def test_a_tie_teaches_nothing():
    policy = torch.tensor([0.09], dtype=torch.float64, requires_grad=True)
    same = torch.tensor([0.1], dtype=torch.float64)
    loss = SmPO()(Contrast.from_errors(policy, same, same, same, 0.5)).loss
    loss.sum().backward()
    assert float(loss.detach()) == math.log(2)
    assert policy.grad is not None
    assert float(policy.grad) == 0.0


def test_a_label_turned_round_is_the_pair_turned_round():
    torch.testing.assert_close(SmPO()(pairs(0.8)).loss, SmPO()(pairs(0.8).swap()).loss)
    torch.testing.assert_close(SmPO()(pairs(0.2)).loss, SmPO()(pairs(0.8, -0.0003)).loss)


def test_with_gamma_one_and_hard_labels_it_is_diffusion_dpo():
    torch.testing.assert_close(SmPO(gamma=1.0)(pairs(1.0)).loss, DPO()(pairs(1.0)).loss)


def test_it_asks_for_renoise_and_no_noise():
    asked = SmPO.needs.settings
    assert asked["inversion.renoise"] is True
    assert asked.get("inversion.jitter", 0.0) == 0.0


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"beta": 0.0}, r"Need beta > 0\. Use 2000"),
        ({"gamma": math.inf}, r"Got gamma=inf\. Need gamma > 0\. The released code uses 10"),
    ],
)
def test_settings_that_cannot_be_used_say_what_to_do(settings, words):
    with pytest.raises(SettingError, match=words):
        SmPO(**settings)


def test_the_sharpness_on_its_page_gives_the_released_labels():
    """The released code scales PickScores from 0.1154…0.2820 to 0…1 and takes their softmax."""
    best, other = ((score - 0.1154) / (0.2820 - 0.1154) for score in (0.231, 0.187))
    released = math.exp(best) / (math.exp(best) + math.exp(other))
    assert agreement_of(0.231 - 0.187, 6.002) == pytest.approx(released, abs=1e-5)
