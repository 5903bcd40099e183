"""The loss of a coin-flip model of preference, shared by every objective that has a logit."""

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid


def soft_label_loss(
    logit: Float[Tensor, " b"], agreement: Float[Tensor, " b"]
) -> Float[Tensor, " b"]:
    """Minus the log-probability of the label: an average over both outcomes where it is soft.

    The sigmoid of the logit is the model's probability that the chosen image wins, and the
    agreement is the label's, both [b].
    """
    return -(agreement * logsigmoid(logit) + (1 - agreement) * logsigmoid(-logit))
