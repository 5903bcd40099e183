"""The second list: inverted evidence, self-play, steps, annotators and debiased labels.

As in `restatements.py`, from the papers and notes with Python floats and nothing of ours.
"""

import math
import statistics
from collections.abc import Callable, Mapping
from typing import Any

from contracts.pair_numbers import Numbers, softplus

Settings = Mapping[str, Any]


def gap(pair: Numbers) -> float:
    """(e_θʷ − e_refʷ) − (e_θˡ − e_refˡ): negative where the policy favours the chosen image."""
    chosen = pair.policy_chosen - pair.reference_chosen
    return chosen - (pair.policy_rejected - pair.reference_rejected)


def either(inside: float, agreement: float) -> float:
    """−log σ of the inside, or of its opposite, as often as the label says."""
    return agreement * softplus(-inside) + (1 - agreement) * softplus(inside)


def inversion_dpo(pair: Numbers, settings: Settings) -> float:
    """The figure fits the winner and drives the loser away; the code has the other sign."""
    inside = 0.5 * settings["beta"] * gap(pair)
    return either(-inside if settings["sign"] == "figure" else inside, pair.agreement)


def inpo(pair: Numbers, settings: Settings) -> float:
    """Diffusion-DPO's loss on inverted pictures."""
    return either(-0.5 * settings["beta"] * gap(pair), pair.agreement)


def ppd(pair: Numbers, settings: Settings) -> float:
    """−log σ(−β/2 · Δ), Δ as the notes have it, with the policy's errors told of the user."""
    delta = pair.policy_chosen - pair.reference_chosen
    delta += -pair.policy_rejected + pair.reference_rejected
    return either(-0.5 * settings["beta"] * delta, pair.agreement)


def smpo(pair: Numbers, settings: Settings) -> float:
    """−log σ(−β/2 · γ(2p − 1) · […]), with γ(2p − 1) written as γp − γ(1 − p)."""
    certainty = settings["gamma"] * pair.agreement - settings["gamma"] * (1 - pair.agreement)
    return softplus(0.5 * settings["beta"] * certainty * gap(pair))


def spin(pair: Numbers, settings: Settings) -> float:
    """The logistic ℓ(z) = log(1 + e⁻ᶻ) of data against opponent, whatever a label says."""
    return softplus(0.5 * settings["beta"] * gap(pair))


def clipped(pair: Numbers, settings: Settings) -> float:
    """−log σ(β s₀ log clip(r₀) + β s₁ log clip(r₁)), s = ±1; an error is −2 log p."""

    def bounded(policy: float, reference: float) -> float:
        ratio = math.exp(min(-policy / 2 + reference / 2, 700.0))
        return math.log(min(max(ratio, 1 - settings["clip"]), 1 + settings["clip"]))

    winner = bounded(pair.policy_chosen, pair.reference_chosen)
    loser = bounded(pair.policy_rejected, pair.reference_rejected)
    return either(settings["beta"] * winner - settings["beta"] * loser, pair.agreement)


def logits(pair: Numbers, settings: Settings) -> list[float]:
    """The three annotators' scaled logits: ρ h / rms(h), the rms over the whole step."""
    columns = [(-gap(other), *other.averages) for other in pair.company]
    found = []
    for own, column in zip((-gap(pair), *pair.averages), zip(*columns, strict=True), strict=True):
        size = math.sqrt(math.fsum(h * h for h in column) / len(column))
        found.append(settings["sharpness"] * (own / max(size, 1e-12)))
    return found


def minority(pair: Numbers, settings: Settings) -> float:
    """U = |mean σ(s) − 1| · min(std(s), 1), nothing while warming up."""
    if pair.step < settings["warm_up"]:
        return 0.0
    scaled = logits(pair, settings)
    confidence = math.fsum(1 / (1 + math.exp(-s)) for s in scaled) / 3
    return abs(confidence - 1) * min(statistics.stdev(scaled), 1.0)


def weight_and_margin(pair: Numbers, settings: Settings, beta: float) -> tuple[float, float]:
    """W = 1/(k₁u + c₁) and Γ = −u²/β + mean(h), β in the code's convention, as published."""
    u = minority(pair, settings)
    level = math.fsum(-gap(other) for other in pair.company) / len(pair.company)
    return 1 / (settings["steepness"] * u + settings["offset"]), level - u * u / beta


def adaptive_dpo(pair: Numbers, settings: Settings) -> float:
    """−W log σ(βh − Γ); the code's β has no half."""
    beta = settings["beta"] / 2
    weight, raised = weight_and_margin(pair, settings, beta)
    return weight * either(-beta * gap(pair) - raised, pair.agreement)


def adaptive_ipo(pair: Numbers, settings: Settings) -> float:
    """W (h + Γ/β − 1/(2β_I))², averaged over both outcomes where the label is soft."""
    beta = settings["logit_beta"] / 2
    weight, raised = weight_and_margin(pair, settings, beta)
    reached, target = -gap(pair) + raised / beta, 1 / (2 * settings["beta"])
    outcomes = ((pair.agreement, target), (1 - pair.agreement, -target))
    return weight * math.fsum(share * (reached - aim) ** 2 for share, aim in outcomes)


def dedpo(pair: Numbers, settings: Settings) -> float:
    """The folded form: softplus(m) − w̃ m with w̃ = Ĝ + (n / n_l)(z − Ĝ)."""
    synthetic, correction = pair.facts["synthetic"], pair.facts["correction"]
    target = synthetic + correction * (pair.agreement - synthetic)
    inside = -0.5 * settings["beta"] * gap(pair)
    return softplus(inside) - target * inside


SECOND: dict[str, Callable[[Numbers, Settings], float]] = {
    "inversion-dpo": inversion_dpo,
    "inpo": inpo,
    "smpo": smpo,
    "spin": spin,
    "d3po": clipped,
    "spo": clipped,
    "lpo": clipped,
    "adaptive-dpo": adaptive_dpo,
    "adaptive-ipo": adaptive_ipo,
    "dedpo": dedpo,
    "ppd": ppd,
}
