r"""How much each noise level counts, and what an error is worth in another kind of prediction.

With $s = \sigma/(\alpha+\sigma)$ every path is a straight one, rescaled: an error of any prediction
is an error of the flow $u = \epsilon - x_0$ times a known number. All functions are pure and
return one number per pair.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from jaxtyping import Float
from torch import Tensor

from palate.core.contrast import Contrast
from palate.core.problems import SettingError

_FLOW_PER_ERROR: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = MappingProxyType(
    {
        "epsilon": lambda alpha, sigma: (alpha + sigma) / alpha,
        "sample": lambda alpha, sigma: (alpha + sigma) / sigma,
        "v_prediction": lambda alpha, sigma: (alpha + sigma) / (alpha.square() + sigma.square()),
        "flow": lambda alpha, sigma: torch.ones_like(alpha),
    }
)


def flow_units(pairs: Contrast) -> Float[Tensor, " b"]:
    """What a squared error counts as an error of the flow, [b].

    Raises:
        SettingError: when the level of the pairs is not known and the errors are not the flow's.
    """
    if pairs.prediction == "flow":
        return torch.ones_like(pairs.agreement)
    alpha, sigma = level_of(pairs)
    return _FLOW_PER_ERROR[pairs.prediction](alpha, sigma).square()


def clean_share(pairs: Contrast) -> Float[Tensor, " b"]:
    """How much of the picture is left on the straight path, 1 − s = α / (α + σ), [b]."""
    alpha, sigma = level_of(pairs)
    return alpha / (alpha + sigma)


def noise_sigmoid(pairs: Contrast, bias: float) -> Float[Tensor, " b"]:
    """σ(bias − log SNR): near 1 where there is much noise, near 0 where there is little, [b]."""
    alpha, sigma = level_of(pairs)
    return torch.sigmoid(bias - 2 * (alpha.log() - sigma.log()))


def level_of(pairs: Contrast) -> tuple[Tensor, Tensor]:
    """Alpha and sigma of each pair, [b] each.

    Raises:
        SettingError: when nobody said at which level the pairs were judged.
    """
    if pairs.alpha is None or pairs.sigma is None:
        raise SettingError(
            got="pairs without a noise level",
            need="alpha and sigma of every pair",
            fix="Give alpha=… and sigma=…, one number per pair; a training always does.",
        )
    return pairs.alpha, pairs.sigma
