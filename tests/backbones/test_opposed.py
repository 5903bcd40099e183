"""Guiding away from a negative model, and trainings added up on their base."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from palate.backbones import Adapter, Backbone, Mixture, load
from palate.backbones.guidance import guided
from palate.backbones.opposed import Opposed
from palate.backbones.sample import Sampler, sample, starting_noise
from palate.backbones.tiny import build
from palate.core.problems import SettingError, WeightsError
from palate.core.streams import Streams

PROMPTS = ["a red circle", "a blue square"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small pipeline of the real classes. Read only."""
    path = tmp_path_factory.mktemp("opposed") / "model"
    build(PROMPTS, size="micro").save_pretrained(path)
    return path


def training(folder: Path, name: str, *, dora: bool = False, whole: bool = False) -> Path:
    """What a training would leave: adapters, or a whole network, moved by keyed noise."""
    adapter = None if whole else Adapter(rank=2, dora=dora)
    model = load(folder, adapter=adapter, train=True)
    with torch.no_grad():
        for key, weight in model.trainable().items():
            weight += 0.05 * Streams(1)(name, key).normal(tuple(weight.shape))
    out = folder.parent / name
    model.export(out)
    return out


@pytest.fixture(scope="module")
def trainings(folder: Path) -> dict[str, Path]:
    """Two LoRAs, a DoRA and a whole network, all trained from the model."""
    return {
        "positive": training(folder, "positive"),
        "negative": training(folder, "negative"),
        "dora": training(folder, "dora", dora=True),
        "whole": training(folder, "whole", whole=True),
    }


def asked(model: Backbone, prompt: str, level: int = 300) -> Tensor:
    """A prediction on two fixed noisy latents."""
    noisy = Streams(2)("asked").normal((2, *model.latent_shape(32, 32)))
    with torch.no_grad():
        return model.predict(noisy, torch.tensor([level, level]), model.embed([prompt] * 2))


def network(model: Backbone) -> dict[str, Tensor]:
    """All weights of a model's denoising network."""
    return model._policy.network.state_dict()


def test_the_negative_model_answers_the_empty_prompt(folder: Path, trainings) -> None:
    positive, negative = (load(folder, weights=trainings[n]) for n in ("positive", "negative"))
    with_prompt, without = asked(positive, PROMPTS[0]), asked(negative, "")
    both = Opposed(positive, negative)
    noisy = Streams(2)("asked").normal((2, *both.latent_shape(32, 32)))
    told, empty = both.embed(PROMPTS[:1] * 2), both.embed([""])
    with torch.no_grad():
        found = guided(both, noisy, torch.tensor([300, 300]), told, empty, 4.0)
    torch.testing.assert_close(found, without + 4.0 * (with_prompt - without))
    assert (found - (1 - 4.0) * asked(load(folder), "") - 4.0 * with_prompt).abs().max() > 1e-3


def drawn(model: Backbone, guidance: float) -> Tensor:
    names = [(prompt, 0) for prompt in PROMPTS]
    noise = starting_noise(model, names, seed=5, size=(32, 32))
    return sample(model, PROMPTS, noise, Sampler(steps=3, guidance=guidance)).int()


def test_against_itself_a_model_draws_as_ever_and_without_guidance_alone(
    folder: Path, trainings
) -> None:
    positive = load(folder, weights=trainings["positive"])
    usual, alone = drawn(positive, 3.0), drawn(positive, 1.0)
    itself = Opposed(positive, load(folder, weights=trainings["positive"]))
    assert (drawn(itself, 3.0) - usual).abs().max() <= 1
    away = Opposed(positive, load(folder, weights=trainings["negative"]))
    assert (drawn(away, 3.0) - usual).abs().max() > 1
    assert torch.equal(drawn(away, 1.0), alone)
    assert away.applied != itself.applied


def test_a_model_of_another_kind_is_refused_and_two_at_once_are_not_trained(
    folder: Path, tmp_path: Path
) -> None:
    build(["another vocabulary altogether"], size="micro").save_pretrained(tmp_path / "other")
    with pytest.raises(SettingError, match=r"another .*tokenizer"):
        Opposed(load(folder), load(tmp_path / "other"))
    both = Opposed(load(folder), load(folder))
    assert both.trainable() == both.state() == {}
    with pytest.raises(SettingError, match="guided away"):
        both.export(tmp_path / "export")


def test_a_mixture_is_the_base_and_shares_of_what_was_changed(folder: Path, trainings) -> None:
    """By hand: base + 0.25 · (positive − base) + 1 · (negative − base), LoRA as up · down."""
    shares = ((trainings["positive"], 0.25), (trainings["negative"], 1.0))
    mixed, base = network(load(folder, weights=Mixture(parts=shares))), network(load(folder))
    loras = [(network(load(folder, weights=path)), share) for path, share in shares]
    assert set(mixed) == set(base)
    changed = 0
    for name, weight in base.items():
        expected, stem = weight.double(), name.removesuffix(".weight")
        for lora, share in loras:
            if f"{stem}.lora_A.default.weight" in lora:
                up, down = (lora[f"{stem}.lora_{x}.default.weight"].double() for x in "BA")
                expected = expected + share * up @ down
                changed += 1
        torch.testing.assert_close(mixed[name].double(), expected, rtol=0, atol=1e-6)
    assert changed > 10


@pytest.mark.parametrize("kind", ["positive", "dora", "whole"])
def test_the_whole_of_one_training_folded_in_answers_as_it_did(
    kind: str, folder: Path, trainings, tmp_path: Path
) -> None:
    mixture = load(folder, weights=Mixture.whole(trainings[kind]))
    before, after = (
        asked(load(folder, weights=trainings[kind]), PROMPTS[0]),
        asked(mixture, PROMPTS[0]),
    )
    torch.testing.assert_close(after, before, rtol=0, atol=2e-6 * float(before.abs().max()))
    mixture.export(tmp_path / "folded")
    assert torch.equal(asked(load(tmp_path / "folded"), PROMPTS[0]), after)
    nothing = load(folder, weights=Mixture(parts=((trainings[kind], 0.0),)))
    assert torch.equal(asked(nothing, PROMPTS[0]), asked(load(folder), PROMPTS[0]))
    # The reference of a mixture is the base, whatever was added to it.
    with nothing.as_reference(), mixture.as_reference():
        assert torch.equal(asked(nothing, PROMPTS[0]), asked(mixture, PROMPTS[0]))


def test_mixtures_that_mean_nothing_are_refused(folder: Path, trainings, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="a mixture with shares"):
        Mixture(parts=())
    with pytest.raises(SettingError, match="shares"):
        Mixture(parts=((trainings["positive"], float("nan")),))
    with pytest.raises(SettingError, match="training of a mixture"):
        load(folder, weights=Mixture.whole(trainings["whole"]), train=True)
    with pytest.raises(WeightsError):
        load(folder, weights=Mixture.whole(tmp_path / "nowhere"))
