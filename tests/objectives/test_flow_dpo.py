"""Flow-DPO: errors of the flow, whatever the network predicts."""

import math
from typing import Any

import pytest
import torch

from contracts.objective_contract import noise
from objectives.golden_pairs import LOGITS, golden, tensor
from palate.core.contrast import Contrast, Denoised
from palate.core.path import PREDICTIONS, Path
from palate.core.problems import SettingError
from palate.objectives import DPO, FlowDPO

LEVEL = torch.tensor([100, 300, 500, 700, 800, 950])


def seen_as(prediction: Any, path: Path) -> Contrast:
    """The same answers about the same noisy pictures, in one kind of prediction."""
    sides = []
    for first in (1, 5):
        clean, fresh = noise(first), noise(first + 1)
        noisy = path.noisy(clean, fresh, LEVEL)
        answers = [fresh + 0.2 * noise(first + 2), fresh + 0.2 * noise(first + 3)]
        sides.append(
            [path.target(clean, fresh, LEVEL, prediction)]
            + [
                path.convert(answer, noisy, LEVEL, source="epsilon", to=prediction)
                for answer in answers
            ]
        )
    branches = [Denoised(target=t, prediction=p, reference=r) for t, p, r in sides]
    alpha, sigma = (part.flatten() for part in path.coefficients(LEVEL, tensor(0.0)))
    return Contrast(
        chosen=branches[0],
        rejected=branches[1],
        agreement=tensor(1.0, 0.9, 0.5, 0.6, 1.0, 0.8),
        alpha=alpha,
        sigma=sigma,
        prediction=prediction,
    )


def path(kind: str) -> Path:
    kept = torch.linspace(0.999, 0.01, 1000, dtype=torch.float64)
    paths = {"straight": Path.rectified(), "round": Path.from_alphas_cumprod(kept, "epsilon")}
    return paths[kind]


def test_the_golden_vector_of_a_flow_model():
    """Errors of the flow as they are, at β = 100: a twentieth of DPO's logits at 2000."""
    for pairs in (golden(prediction="flow", alpha=tensor(*[0.3] * 4)), golden()):
        verdict = FlowDPO()(pairs)
        expected = [math.log1p(math.exp(-m / 20)) for m in LOGITS]
        assert verdict.loss.tolist() == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("kind", ["straight", "round"])
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_every_prediction_gives_the_loss_of_the_flow(prediction, kind):
    """Converted pixel by pixel and then squared, or squared and then converted."""
    expected = FlowDPO()(seen_as("flow", path(kind))).loss
    found = FlowDPO()(seen_as(prediction, path(kind))).loss
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kind", ["straight", "round"])
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_weighted_by_the_clean_share_it_is_dpo_on_the_noise(prediction, kind):
    """The change of variables of the notes: an error of the noise is (1 − s) of the flow's."""
    expected = DPO(beta=50.0)(seen_as("epsilon", path(kind))).loss
    found = FlowDPO(beta=50.0, weight="(1-s)^2")(seen_as(prediction, path(kind))).loss
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def test_by_hand_at_one_level():
    """α = .8, σ = .6, noise errors: (1.4 / .8)² = 3.0625 times the margin."""
    pairs = golden(alpha=tensor(*[0.8] * 4), sigma=tensor(*[0.6] * 4))
    found = FlowDPO(beta=100.0)(pairs).extras["logit"].tolist()
    assert found == pytest.approx([3.0625 * m / 20 for m in LOGITS], abs=1e-10)


def test_a_weight_by_level_needs_a_level():
    with pytest.raises(SettingError, match=r"Got pairs without a noise level\. Need alpha"):
        FlowDPO(weight="(1-s)^2")(golden())


def test_its_levels_are_drawn_as_published():
    assert FlowDPO.needs.settings["noise.levels"] == "logit-normal"


@pytest.mark.usefixtures("shapes_unchecked")
@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"beta": 0.0}, r"Need beta > 0\. Use 100 with a constant weight"),
        ({"weight": "constants"}, r"Did you mean constant\?"),
    ],
)
def test_bad_settings_say_what_to_do(settings, words):
    with pytest.raises(SettingError, match=words):
        FlowDPO(**settings)
