"""The first list: robust variants, other divergences, and objectives beside Diffusion-DPO's family.

As in `restatements.py`, from the papers and notes with Python floats and nothing of ours.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

from contracts.pair_numbers import Numbers, softplus

Settings = Mapping[str, Any]


def h(pair: Numbers) -> float:
    """The margin h = (e_refʷ − e_θʷ) − (e_refˡ − e_θˡ)."""
    winner = pair.reference_chosen - pair.policy_chosen
    return winner - (pair.reference_rejected - pair.policy_rejected)


def both(pair: Numbers, win: float, lose: float) -> float:
    """The loss if the label holds, and if it is turned, as often as it says."""
    return pair.agreement * win + (1 - pair.agreement) * lose


def cdpo(pair: Numbers, settings: Settings) -> float:
    """(1−ε) sp(−m) + ε sp(m)."""
    m, e = settings["beta"] / 2 * h(pair), settings["epsilon"]

    def hard(m: float) -> float:
        return (1 - e) * softplus(-m) + e * softplus(m)

    return both(pair, hard(m), hard(-m))


def rdpo(pair: Numbers, settings: Settings) -> float:
    """[(1−ε) sp(−m) − ε sp(m)] / (1−2ε)."""
    m, e = settings["beta"] / 2 * h(pair), settings["epsilon"]

    def hard(m: float) -> float:
        return ((1 - e) * softplus(-m) - e * softplus(m)) / (1 - 2 * e)

    return both(pair, hard(m), hard(-m))


def ipo(pair: Numbers, settings: Settings) -> float:
    """(h − (p − ½)/τ)², τ = β_I: the paper's expectation over labels, on the raw margin."""
    return (h(pair) - (pair.agreement - 0.5) / settings["beta"]) ** 2


def hinge(pair: Numbers, settings: Settings) -> float:
    """max(0, 1 − m)."""
    m = settings["beta"] / 2 * h(pair)
    return both(pair, max(0.0, 1 - m), max(0.0, 1 + m))


def dmpo(pair: Numbers, settings: Settings) -> float:
    """KL((σ(m), σ(−m)) ‖ (1−α, α)), written as entropy and cross-entropy."""
    m, a = settings["beta"] / 2 * h(pair), settings["alpha"]

    def hard(m: float) -> float:
        win, lose = math.exp(-softplus(-m)), math.exp(-softplus(m))
        entropy = win * softplus(-m) + lose * softplus(m)
        return -entropy - win * math.log(1 - a) - lose * math.log(a)

    return both(pair, hard(m), hard(-m))


def see_dpo(pair: Numbers, settings: Settings) -> float:
    """Z = −½ [(β+γ)(e_θʷ − e_θˡ) − β(e_refʷ − e_refˡ)], γ = β γ_rel."""
    beta = settings["beta"]
    gamma = settings["gamma"] * (beta if settings["gamma_mode"] == "relative" else 1)
    policy = (beta + gamma) * (pair.policy_chosen - pair.policy_rejected)
    z = -(policy - beta * (pair.reference_chosen - pair.reference_rejected)) / 2
    return both(pair, softplus(-z), softplus(z))


def kto(pair: Numbers, settings: Settings) -> float:
    """λ_y (1 − σ(v β (g − Q))), pictures weighted as often as the code would draw them."""
    beta, share = settings["beta"] / 2, settings["positives"]

    def pictures(one: Numbers) -> list[tuple[float, float, float]]:
        """Gain, probability of being desirable and weight of both pictures."""
        won = one.agreement
        second = 1 - won + won * one.facts["redeemed"]
        found = []
        for good, gain in (
            (won, one.reference_chosen - one.policy_chosen),
            (second, one.reference_rejected - one.policy_rejected),
        ):
            found.append((gain, good, share * good + (1 - share) * (1 - good)))
        total = sum(weight for _, _, weight in found)
        return [(gain, good, weight / total) for gain, good, weight in found]

    means = [sum(weight * gain for gain, _, weight in pictures(one)) for one in pair.company]
    usual = max(0.0, math.fsum(means) / len(means))

    def cost(value: float) -> float:
        return 1 - 1 / (1 + math.exp(-value))

    loss = 0.0
    for gain, good, weight in pictures(pair):
        value = beta * (gain - usual)
        loss += weight * settings["desirable"] * good * cost(value)
        loss += weight * settings["undesirable"] * (1 - good) * cost(-value)
    return loss


def mapo(pair: Numbers, settings: Settings) -> float:
    """Eʷ − b log σ(T (f(eʷ) − f(eˡ))), f(e) = a e / (exp(a e) − 1)."""

    def f(error: float) -> float:
        x = settings["squash"] * error
        return x / (math.exp(x) - 1)

    def hard(winner: float, loser: float) -> float:
        odds = settings["scale"] * (f(winner) - f(loser))
        return winner + settings["weight"] * softplus(-odds)

    winner, loser = pair.policy_chosen, pair.policy_rejected
    return both(pair, hard(winner, loser), hard(loser, winner))


def dspo(pair: Numbers, settings: Settings) -> float:
    """Mean over elements of ((ε_θʷ − ε) − β(1−s)(ε_θʷ − ε_refʷ))²."""
    beta = settings["beta"]

    def hard(side: str, z: float) -> float:
        s = 1 / (1 + math.exp(-z))
        columns = [pair.predictions[f"{who}_{side}"] for who in ("policy", "target", "reference")]
        gaps = [
            (model - noise) - beta * (1 - s) * (model - frozen)
            for model, noise, frozen in zip(*columns, strict=True)
        ]
        return math.fsum(gap * gap for gap in gaps) / len(gaps)

    z = beta / 2 * h(pair)
    return both(pair, hard("chosen", z), hard("rejected", -z))


def sdpo(pair: Numbers, settings: Settings) -> float:
    """The value of Diffusion-DPO: only the gradient is another."""
    assert settings["base"] == "dpo"
    m = (settings["beta"] or 2000.0) / 2 * h(pair)
    return both(pair, softplus(-m), softplus(m))


def capo(pair: Numbers, settings: Settings) -> float:
    """(R_ca⁺ − R_ca⁻ − β/2 w_t [gain⁺ − gain⁻])², w_t = σ(−λ_t + b), λ_t = log(α²/σ²)."""
    snr = pair.alpha**2 / pair.sigma**2
    weight = 1 / (1 + math.exp(math.log(snr) - settings["bias"]))
    return (pair.facts["reward_gap"] - settings["beta"] / 2 * weight * h(pair)) ** 2


def npo(pair: Numbers, settings: Settings) -> float:
    """Diffusion-DPO with winner and loser exchanged."""
    m = -settings["beta"] / 2 * h(pair)
    return both(pair, softplus(-m), softplus(m))


def flow_dpo(pair: Numbers, settings: Settings) -> float:
    """Diffusion-DPO on E = ‖v_θ − v‖²; an error of the noise is (1 − s) of one of v."""
    s = pair.sigma / (pair.alpha + pair.sigma)
    m = settings["beta"] / 2 * h(pair) / (1 - s) ** 2
    return both(pair, softplus(-m), softplus(m))


FIRST: dict[str, Callable[[Numbers, Settings], float]] = {
    "cdpo": cdpo,
    "rdpo": rdpo,
    "ipo": ipo,
    "hinge": hinge,
    "dmpo": dmpo,
    "see-dpo": see_dpo,
    "kto": kto,
    "mapo": mapo,
    "dspo": dspo,
    "sdpo": sdpo,
    "capo": capo,
    "npo": npo,
    "flow-dpo": flow_dpo,
}
