"""Attention to users in half precision with recomputed activations, in every family."""

import pytest
import torch

from backbones import tiny_cascade, tiny_sd3, tiny_sdxl
from backbones.asking import LEVELS, WORDS, generator
from backbones.conftest import PROMPTS
from palate.backbones import Backbone, Personal, load, tiny
from palate.core.streams import Streams

SETTINGS = Personal(user_width=6, tokens=3, width=5)
SIDE = 128
FAMILIES = {
    "sd": lambda: tiny.build(PROMPTS, size="micro"),
    "sdxl": lambda: tiny_sdxl.build(PROMPTS),
    "sd3": lambda: tiny_sd3.build(PROMPTS),
    "sd35": lambda: tiny_sd3.build(PROMPTS, newer=True),
    "cascade": lambda: tiny_cascade.prior(PROMPTS),
}


def ask(model: Backbone, user: torch.Tensor | None) -> torch.Tensor:
    side = 64 if "sd3" in model.kind else SIDE
    noisy = torch.randn(3, *model.latent_shape(side, side), generator=generator())
    return model.predict(noisy, LEVELS, model.embed(WORDS).with_user(user))


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_a_gradient_in_half_precision_is_near_and_the_same_when_recomputed(family, tmp_path):
    FAMILIES[family]().save_pretrained(tmp_path / "model")
    user = Streams(5)("users").normal((3, SETTINGS.tokens, SETTINGS.user_width))
    user[1] = 0
    found = {}
    for name, precision, again in (
        ("exact", "fp32", False), ("half", "bf16", False), ("recomputed", "bf16", True),
    ):  # fmt: skip
        model = load(
            tmp_path / "model", personal=SETTINGS, train=True, precision=precision,
            gradient_checkpointing=again,
        )  # fmt: skip
        with torch.no_grad():
            for key, weight in model.trainable().items():
                if ".values." in key:
                    weight += 0.3 * Streams(6)("moved", key).normal(tuple(weight.shape))
        answer = ask(model, user)
        with model.as_reference():
            plain = ask(model, None)
        assert torch.equal(answer[1].detach(), plain[1])
        assert (answer[[0, 2]] - plain[[0, 2]]).abs().max() > 1e-3
        answer.square().mean().backward()
        gradients = [weight.grad for weight in model.trainable().values()]
        assert all(g is not None and g.dtype == torch.float32 for g in gradients)
        found[name] = torch.cat([g.flatten() for g in gradients if g is not None])
    size = found["exact"].norm()
    assert size > 0
    assert (found["half"] - found["exact"]).norm() < 0.1 * size
    assert (found["recomputed"] - found["half"]).norm() < 1e-3 * size
