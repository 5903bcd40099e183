"""Known bugs of single methods, each of which must make the objective contract fail.

Every bug stands where a published script or a hasty reading has it, or would have it, and is the
method itself but for one part.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import replace
from typing import Any, final

import pytest
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, relu

from contracts.objective_contract import CHECKS
from contracts.verdicts import failing
from palate.core.contrast import Contrast, Stepped, Verdict
from palate.objectives import OBJECTIVES, Objective
from palate.objectives.limits import predicted
from palate.objectives.logistic import soft_label_loss
from palate.objectives.mapo import squashed
from palate.objectives.sdpo import held_back
from palate.objectives.weighting import flow_units

Formula = Callable[[Any, Contrast], Tensor]


def planted(name: str, formula: Formula, **settings: Any) -> type[Objective]:
    """A method with its own needs, judged by another formula; with its own settings or others."""
    kind = OBJECTIVES.named(name)
    fields = dataclasses.fields(kind)  # pyright: ignore[reportArgumentType]
    hints = {field.name: Any for field in fields}
    about = {key: getattr(kind, key) for key in ("name", "title", "paper", "year", "needs")}
    body: dict[str, Any] = {
        "__doc__": f"{kind.title} with one part of its formula replaced.",
        "__annotations__": hints,
        "__call__": lambda self, pairs: Verdict(formula(self, pairs)),
        "at_init": lambda self: kind(**dataclasses.asdict(self)).at_init(),
        **{field.name: settings.get(field.name, field.default) for field in fields},
        **about,
    }
    made = type("Planted", (Objective,), body)
    return final(dataclasses.dataclass(frozen=True, slots=True, kw_only=True)(made))


def right(name: str) -> Formula:
    """The method's own formula: the control."""
    kind = OBJECTIVES.named(name)
    return lambda own, pairs: kind(**dataclasses.asdict(own))(pairs).loss


def logit(own: Any, pairs: Contrast) -> Tensor:
    """The logit of the family."""
    return own.beta / 2 * pairs.margin


def divergence(chance: Tensor, m: Tensor, alpha: float) -> Tensor:
    """DMPO's divergence of a hard label, with the weights given."""
    win = chance * (logsigmoid(m) - torch.tensor(1 - alpha).log())
    return win + (1 - chance) * (logsigmoid(-m) - torch.tensor(alpha).log())


def dmpo(own: Any, pairs: Contrast, weigh: Callable[[Tensor], Tensor]) -> Tensor:
    """DMPO with its weight σ(m) taken in another way."""
    m, a = logit(own, pairs), pairs.agreement
    kept, turned = (divergence(weigh(each), each, own.alpha) for each in (m, -m))
    return a * kept + (1 - a) * turned


def dmpo_forward(own: Any, pairs: Contrast) -> Tensor:
    label = pairs.agreement * (1 - own.alpha) + (1 - pairs.agreement) * own.alpha
    entropy = label * label.log() + (1 - label) * (1 - label).log()
    return entropy + soft_label_loss(logit(own, pairs), label)


def see(own: Any, pairs: Contrast, entropy: Tensor) -> Tensor:
    m = logit(own, pairs) + 0.5 * own.gamma * own.beta * entropy
    return soft_label_loss(m, pairs.agreement)


def see_paid_for_the_gain(own: Any, pairs: Contrast) -> Tensor:
    return see(own, pairs, pairs.margin)


def see_wrong_sign(own: Any, pairs: Contrast) -> Tensor:
    return see(own, pairs, pairs.chosen.error - pairs.swap().chosen.error)


def kto(own: Any, pairs: Contrast, usual: Tensor) -> Tensor:
    """Diffusion-KTO with another idea of what is usual."""
    gains = (pairs.chosen.gain, pairs.swap().chosen.gain)
    won = pairs.agreement
    goods = (won, 1 - won * (1 - pairs.fact("redeemed")))
    shares = [own.positives * good + (1 - own.positives) * (1 - good) for good in goods]
    loss = torch.zeros_like(won)
    for gain, good, share in zip(gains, goods, shares, strict=True):
        value = own.beta / 2 * (gain - usual)
        cost = good * torch.sigmoid(-value) + (1 - good) * torch.sigmoid(value)
        loss = loss + share / (shares[0] + shares[1]) * cost
    return loss


def kto_mean_over_chosen_only(own: Any, pairs: Contrast) -> Tensor:
    return kto(own, pairs, pairs.mean(pairs.chosen.gain.detach()).clamp(min=0))


def kto_mean_over_the_part_at_hand(own: Any, pairs: Contrast) -> Tensor:
    return kto(own, pairs, pairs.chosen.gain.detach().mean().clamp(min=0))


def kto_usual_learns(own: Any, pairs: Contrast) -> Tensor:
    return kto(own, pairs, pairs.chosen.gain)


def mapo(own: Any, pairs: Contrast, squash: Callable[[Tensor], Tensor], sign: int) -> Tensor:
    """MaPO with another squash or the other sign."""
    chosen, rejected = pairs.chosen.error, pairs.swap().chosen.error
    odds = sign * own.scale * (squash(own.squash * chosen) - squash(own.squash * rejected))
    plain = pairs.agreement * chosen + (1 - pairs.agreement) * rejected
    return plain + own.weight * soft_label_loss(odds, pairs.agreement)


def dspo(own: Any, pairs: Contrast, lean: Callable[[Tensor], Tensor]) -> Tensor:
    """DSPO with another lean."""
    found = []
    for side, m in (
        (pairs.chosen, logit(own, pairs)),
        (pairs.swap().chosen, -logit(own, pairs)),
    ):
        known = predicted(side)
        away = own.beta * lean(m).reshape(-1, 1, 1, 1) * (known.prediction - known.reference)
        found.append((known.prediction - known.target - away).square().flatten(1).mean(1))
    return pairs.agreement * found[0] + (1 - pairs.agreement) * found[1]


def sdpo_scales_the_value(own: Any, pairs: Contrast) -> Tensor:
    share = torch.linspace(0.1, 1.0, 6, dtype=pairs.agreement.dtype)[: len(pairs.agreement)]
    return share * soft_label_loss(1000 * pairs.margin, pairs.agreement)


def sdpo_turns_the_gradient(own: Any, pairs: Contrast) -> Tensor:
    rejected = predicted(pairs.rejected)
    share = torch.full_like(pairs.agreement, -0.5)
    held = replace(rejected, prediction=held_back(rejected.prediction, share))
    return soft_label_loss(1000 * replace(pairs, rejected=held).margin, pairs.agreement)


def sdpo_holds_back_the_chosen_side(own: Any, pairs: Contrast) -> Tensor:
    chosen = predicted(pairs.chosen)
    share = torch.full_like(pairs.agreement, 0.5)
    held = replace(chosen, prediction=held_back(chosen.prediction, share))
    return soft_label_loss(1000 * replace(pairs, chosen=held).margin, pairs.agreement)


def capo_level_ignored(own: Any, pairs: Contrast) -> Tensor:
    return (pairs.fact("reward_gap") - logit(own, pairs)).square()


def capo_weight_turned(own: Any, pairs: Contrast) -> Tensor:
    assert pairs.alpha is not None
    assert pairs.sigma is not None
    weight = torch.sigmoid(2 * (pairs.alpha / pairs.sigma).log())
    return (pairs.fact("reward_gap") - weight * logit(own, pairs)).square()


def flow_converted_the_other_way(own: Any, pairs: Contrast) -> Tensor:
    return soft_label_loss(logit(own, pairs) / flow_units(pairs), pairs.agreement)


def flow_converted_without_a_square(own: Any, pairs: Contrast) -> Tensor:
    return soft_label_loss(logit(own, pairs) * flow_units(pairs).sqrt(), pairs.agreement)


def smpo_first_label_for_everyone(own: Any, pairs: Contrast) -> Tensor:
    certainty = 2 * pairs.agreement[0] - 1
    return -logsigmoid(own.gamma * certainty * logit(own, pairs))


def dedpo_ratio_of_the_batch(own: Any, pairs: Contrast) -> Tensor:
    synthetic, correction = pairs.fact("synthetic"), pairs.fact("correction")
    share = correction / correction.mean()
    target = synthetic + share * (pairs.agreement - synthetic)
    return soft_label_loss(logit(own, pairs), target)


def d3po_clipped_where_it_pays_only(own: Any, pairs: Contrast) -> Tensor:
    """The clip of policy gradients: bad steps keep their gradient."""
    chosen, rejected = pairs.chosen, pairs.swap().chosen
    assert isinstance(chosen, Stepped)
    assert isinstance(rejected, Stepped)
    gains = (
        torch.minimum(chosen.gain, chosen.clipped(own.clip).gain),
        torch.maximum(rejected.gain, rejected.clipped(own.clip).gain),
    )
    return soft_label_loss(own.beta / 2 * (gains[0] - gains[1]), pairs.agreement)


def family(own: Any, pairs: Contrast) -> Tensor:
    """The plain loss of the family."""
    return soft_label_loss(logit(own, pairs), pairs.agreement)


# By default the lean is so slight that only the test by hand can see a bug in it.
STRONGER: dict[str, dict[str, Any]] = {"dspo": {"beta": 1.0}}

BUGS: dict[str, tuple[str, Formula]] = {
    "cdpo smooths nothing": ("cdpo", family),
    "cdpo smooths the wrong way": (
        "cdpo",
        lambda own, pairs: soft_label_loss(logit(own, pairs), pairs.agreement * own.epsilon),
    ),
    "rdpo without its denominator": (
        "rdpo",
        lambda own, pairs: soft_label_loss(logit(own, pairs), pairs.agreement - own.epsilon),
    ),
    "rdpo is cdpo": ("rdpo", right("cdpo")),
    "ipo on logits": (
        "ipo",
        lambda own, pairs: (logit(own, pairs) - (pairs.agreement - 0.5) / own.beta).square(),
    ),
    "ipo with a factor of two": (
        "ipo",
        lambda own, pairs: (pairs.margin - (2 * pairs.agreement - 1) / own.beta).square(),
    ),
    "ipo ignores a soft label": (
        "ipo",
        lambda own, pairs: (pairs.margin - 1 / (2 * own.beta)).square(),
    ),
    "hinge without the half": (
        "hinge",
        lambda own, pairs: (
            pairs.agreement * relu(1 - own.beta * pairs.margin)
            + (1 - pairs.agreement) * relu(1 + own.beta * pairs.margin)
        ),
    ),
    "hinge for the label one": ("hinge", lambda own, pairs: relu(1 - logit(own, pairs))),
    "dmpo with a detached weight": (
        "dmpo",
        lambda own, pairs: dmpo(own, pairs, lambda m: torch.sigmoid(m).detach()),
    ),
    "dmpo with another weight": (
        "dmpo",
        lambda own, pairs: dmpo(own, pairs, lambda m: torch.full_like(m, 1 - own.alpha)),
    ),
    "dmpo the forward way": ("dmpo", dmpo_forward),
    "see-dpo pays for the gain": ("see-dpo", see_paid_for_the_gain),
    "see-dpo with the sign turned": ("see-dpo", see_wrong_sign),
    "see-dpo without entropy": ("see-dpo", family),
    "kto mean over the chosen only": ("kto", kto_mean_over_chosen_only),
    "kto mean over the part at hand": ("kto", kto_mean_over_the_part_at_hand),
    "kto compares with a number that learns": ("kto", kto_usual_learns),
    "mapo with the sign turned": (
        "mapo",
        lambda own, pairs: mapo(own, pairs, squashed, -1),
    ),
    "mapo with 0/0 at a perfect prediction": (
        "mapo",
        lambda own, pairs: mapo(own, pairs, lambda x: x / (x.exp() - 1), 1),
    ),
    "dspo with detached odds": (
        "dspo",
        lambda own, pairs: dspo(own, pairs, lambda m: torch.sigmoid(-m).detach()),
    ),
    "dspo leans by the odds of winning": (
        "dspo",
        lambda own, pairs: dspo(own, pairs, torch.sigmoid),
    ),
    "sdpo scales the value": ("sdpo", sdpo_scales_the_value),
    "sdpo turns the rejected gradient": ("sdpo", sdpo_turns_the_gradient),
    "sdpo holds back the chosen side": ("sdpo", sdpo_holds_back_the_chosen_side),
    "capo ignores the level": ("capo", capo_level_ignored),
    "capo weighs the other way": ("capo", capo_weight_turned),
    "npo is dpo": ("npo", family),
    "flow-dpo on errors as they come": ("flow-dpo", family),
    "flow-dpo converts the other way": ("flow-dpo", flow_converted_the_other_way),
    "flow-dpo converts without a square": ("flow-dpo", flow_converted_without_a_square),
    "smpo with the first pair's label": ("smpo", smpo_first_label_for_everyone),
    "smpo averages over outcomes": ("smpo", family),
    "dedpo with the ratio of the batch": ("dedpo", dedpo_ratio_of_the_batch),
    "dedpo without a correction": (
        "dedpo",
        lambda own, pairs: soft_label_loss(logit(own, pairs), pairs.fact("synthetic")),
    ),
    "d3po without its clip": ("d3po", family),
    "d3po clips where it pays only": ("d3po", d3po_clipped_where_it_pays_only),
    "inversion-dpo with the sign of the code": (
        "inversion-dpo",
        lambda own, pairs: soft_label_loss(-logit(own, pairs), pairs.agreement),
    ),
    "spin reads the label": ("spin", family),
    "adaptive-dpo without weights": ("adaptive-dpo", family),
}


@pytest.mark.parametrize("name", sorted({name for name, _ in BUGS.values()}))
def test_the_method_itself_passes_when_planted(name):
    assert failing(CHECKS, planted(name, right(name), **STRONGER.get(name, {}))) == set()


@pytest.mark.parametrize("bug", BUGS, ids=str)
def test_the_contract_catches(bug):
    name, formula = BUGS[bug]
    assert failing(CHECKS, planted(name, formula, **STRONGER.get(name, {})))
