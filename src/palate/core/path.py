"""The way from picture to noise: α(t), σ(t), and exact conversions between four predictions.

A noisy image is x = α·x₀ + σ·ε. A network may be trained to predict the noise ε, the clean
image x₀, the velocity v = α·ε − σ·x₀ (Salimans & Ho, 2022, arXiv:2202.00512), or the flow
u = ε − x₀ (rectified flow, arXiv:2209.03003). Given x, each determines the others; the one
table in `to_clean_and_noise` says how. It holds for any α, σ, not only where α² + σ² = 1.
"""

from dataclasses import dataclass
from typing import Literal, final, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from palate.core.problems import require, unknown

Prediction = Literal["epsilon", "sample", "v_prediction", "flow"]
PREDICTIONS: tuple[str, ...] = get_args(Prediction)


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Path:
    """A table of noise levels, and what the network on it predicts.

    Attributes:
        alpha: How much of the picture is left at each level, [levels], float64.
        sigma: How much noise is in it, [levels], float64.
        prediction: What the network is trained to predict. The words are diffusers' own.
    """

    alpha: Float[Tensor, " levels"]
    sigma: Float[Tensor, " levels"]
    prediction: Prediction = "epsilon"

    def __post_init__(self) -> None:
        if self.prediction not in PREDICTIONS:
            raise unknown("prediction", self.prediction, PREDICTIONS)
        require(
            self.alpha.ndim == 1 and self.alpha.shape == self.sigma.shape,
            got=f"alpha {tuple(self.alpha.shape)} and sigma {tuple(self.sigma.shape)}",
            need="two lists of the same length",
            fix="Give one alpha and one sigma per noise level.",
        )

    @classmethod
    def from_alphas_cumprod(cls, alphas_cumprod: Tensor, prediction: Prediction) -> "Path":
        """A variance-preserving path from the ᾱ table of a diffusers scheduler."""
        kept = alphas_cumprod.to(torch.float64)
        return cls(alpha=kept.sqrt(), sigma=(1 - kept).sqrt(), prediction=prediction)

    @classmethod
    def rectified(cls, levels: int = 1000) -> "Path":
        """The straight path of rectified flow: α = 1 − t, σ = t, with t = (i + 1) / levels."""
        time = torch.arange(1, levels + 1, dtype=torch.float64) / levels
        return cls(alpha=1 - time, sigma=time, prediction="flow")

    @property
    def levels(self) -> int:
        """How many noise levels the table has."""
        return int(self.alpha.shape[0])

    def coefficients(self, level: Int[Tensor, " b"], like: Tensor) -> tuple[Tensor, Tensor]:
        """α and σ of each row, shaped to multiply `like`, in its device and type."""
        shape = (-1, *[1] * (like.ndim - 1))
        index = level.to(self.alpha.device)
        alpha = self.alpha[index].to(like).reshape(shape)
        sigma = self.sigma[index].to(like).reshape(shape)
        return alpha, sigma

    def noisy(
        self,
        clean: Float[Tensor, " b *shape"],
        noise: Float[Tensor, " b *shape"],
        level: Int[Tensor, " b"],
    ) -> Float[Tensor, " b *shape"]:
        """The picture with noise: α·x₀ + σ·ε."""
        alpha, sigma = self.coefficients(level, clean)
        return alpha * clean + sigma * noise

    def target(
        self,
        clean: Float[Tensor, " b *shape"],
        noise: Float[Tensor, " b *shape"],
        level: Int[Tensor, " b"],
        prediction: Prediction | None = None,
    ) -> Float[Tensor, " b *shape"]:
        """What a perfect network would have said, in its own kind of prediction."""
        alpha, sigma = self.coefficients(level, clean)
        table = {
            "epsilon": lambda: noise,
            "sample": lambda: clean,
            "v_prediction": lambda: alpha * noise - sigma * clean,
            "flow": lambda: noise - clean,
        }
        return table[prediction or self.prediction]()

    def to_clean_and_noise(
        self,
        predicted: Float[Tensor, " b *shape"],
        noisy: Float[Tensor, " b *shape"],
        level: Int[Tensor, " b"],
        prediction: Prediction | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The clean image and the noise that a prediction implies."""
        alpha, sigma = self.coefficients(level, noisy)
        total, power = alpha + sigma, alpha.square() + sigma.square()
        table = {
            "epsilon": lambda: ((noisy - sigma * predicted) / alpha, predicted),
            "sample": lambda: (predicted, (noisy - alpha * predicted) / sigma),
            "v_prediction": lambda: (
                (alpha * noisy - sigma * predicted) / power,
                (sigma * noisy + alpha * predicted) / power,
            ),
            "flow": lambda: (
                (noisy - sigma * predicted) / total,
                (noisy + alpha * predicted) / total,
            ),
        }
        return table[prediction or self.prediction]()

    def convert(
        self,
        predicted: Float[Tensor, " b *shape"],
        noisy: Float[Tensor, " b *shape"],
        level: Int[Tensor, " b"],
        *,
        source: Prediction,
        to: Prediction,
    ) -> Float[Tensor, " b *shape"]:
        """The same statement about x, in another kind of prediction."""
        clean, noise = self.to_clean_and_noise(predicted, noisy, level, source)
        return self.target(clean, noise, level, to)
