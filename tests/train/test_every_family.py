"""Every method on every family of models: trained, exported, and loaded in plain diffusers."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from diffusers.utils import logging
from safetensors.torch import load_file
from torch import Tensor

from palate.backbones import load
from palate.backbones.personal import listen
from palate.core.files import read_json
from palate.core.streams import Streams
from palate.objectives import OBJECTIVES, Objective
from palate.train.log import read_rows
from palate.train.loop import train
from palate.train.run import Run
from palate.train.users import USERS
from train.conftest import WORDS
from train.families import FAMILIES, make_family
from train.methods import data_for, groups, run_of, smaller

SIDE = 64
# Who judges what is drawn: of finished pictures, of predicted ones, of noisy latents.
JUDGES = {"d3po": "world:vividness", "spo": "steps:{}/steps", "lpo": "latent:{}/latent"}
# Tried on every change: one method for each kind of evidence, on the families that no other test
# of training is about. The rest only when all tests are run.
QUICK = frozenset((method, name) for method in ("dpo", "inpo", "lpo") for name in ("sd2", "sdxl"))
QUICK |= {("dpo", "sd3"), ("ppd", "sd3")}
# Its scorer is half of a UNet.
WITHOUT = {("lpo", "sd3")}


def every() -> list[Any]:
    """Every method with every family."""
    both = [(method, name) for method in OBJECTIVES.names for name in FAMILIES]
    slow, kept = pytest.mark.slow, [each for each in both if each not in WITHOUT]
    return [pytest.param(*each, marks=() if each in QUICK else slow) for each in kept]


@pytest.fixture(scope="module")
def family(tmp_path_factory) -> Callable[[str], Path]:
    """The folder of a family's model, made when first asked for. Read only."""
    made: dict[str, Path] = {}

    def find(name: str) -> Path:
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            made[name] = make_family(name, [f"a {word} thing" for word in WORDS], folder)
        return made[name]

    return find


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Callable[[type[Objective]], Path | None]:
    """The snapshot a method reads, made when first asked for. Read only."""
    made: dict[tuple[str, ...], Path | None] = {}

    def find(objective: type[Objective]) -> Path | None:
        needs = objective.needs
        wanted = (str(needs.scorer), str(needs.users), *needs.facts)
        if wanted not in made:
            made[wanted] = data_for(objective, tmp_path_factory.mktemp("data"))
        return made[wanted]

    return find


def small(objective: type[Objective], model: Path, data: Path | None) -> Run:
    """Two steps of a method as `palate train --method` takes them, or two rounds of two."""
    told = {**smaller(objective), "plan.steps": 2, "plan.batch": 4, "plan.health_every": 2}
    if objective.needs.scorer:
        told["rollout.scorer"] = JUDGES[objective.name].format(model.parent)
    if "selfplay" in groups(objective):
        told["selfplay.iterations"] = 2
    return run_of(objective, model, data, **told)


def plain(base: Path, export: Path | None = None) -> Any:
    """What somebody has who knows nothing but diffusers and what the model's card says."""
    logging.disable_progress_bar()
    whole = export is not None and "from_pretrained(FOLDER)" in (export / "README.md").read_text()
    pipeline = DiffusionPipeline.from_pretrained(export if whole else base)
    if export is not None and not whole:
        somebody = whom(export)
        if somebody is None:
            pipeline.load_lora_weights(export)
        else:
            listen(pipeline, export).draw_for(somebody)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def whom(export: Path) -> Tensor | None:
    """The first person an export knows, [1, tokens, width]; None where it was not made for any."""
    file = export / USERS
    return load_file(file)["users"][:1] if file.is_file() else None


def answer(pipeline: Any, noisy: Tensor, level: Tensor, told: Mapping[str, Tensor]) -> Tensor:
    """What a pipeline's network says of noisy latents, at its own times."""
    if "transformer" in pipeline.components:
        with torch.no_grad():
            return pipeline.transformer(
                noisy, told["text"], pooled_projections=told["pooled"], timestep=level
            ).sample
    sizes = torch.tensor([[SIDE, SIDE, 0, 0, SIDE, SIDE]] * len(noisy))
    added = {"text_embeds": told.get("pooled"), "time_ids": sizes}
    with torch.no_grad():
        return pipeline.unet(noisy, level, told["text"], added_cond_kwargs=added).sample


# diffusers still hands tensors to numpy in the old way.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize(("method", "name"), every())
def test_a_method_trains_and_plain_diffusers_loads_what_it_learned(
    method, name, family, data, tmp_path
):
    objective, model, out = OBJECTIVES[method], family(name), tmp_path / "run"
    run = small(objective, model, data(objective))
    train(run, out, cache=model.parent / "cache")
    assert read_json(out / "record.json")["status"] == "finished"
    rows = read_rows(out / "log.jsonl")
    assert len(rows) == run.planned_steps
    assert all(row["skipped"] is None and row["gradient_norm"] > 0 for row in rows), rows
    assert not (out / "quarantine.jsonl").exists()
    learned, pipeline = load(model, weights=out / "export"), plain(model, out / "export")
    shape = learned.latent_shape(SIDE, SIDE)
    noisy = torch.stack([Streams(8)("noisy", i).normal(shape) for i in (0, 1)])
    # In the network's own time, which plain diffusers knows too.
    level, told = torch.tensor([20.0, 700.0]), learned.embed(["a red thing", ""])
    somebody = whom(out / "export")
    told = told if somebody is None else told.with_user(somebody.repeat(2, 1, 1))
    found = answer(pipeline, noisy, level, told.tensors)
    torch.testing.assert_close(found, learned.predict(noisy, level, told), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(found, answer(plain(model), noisy, level, told.tensors), atol=1e-5)
    words = {"num_inference_steps": 2, "height": SIDE, "width": SIDE, "output_type": "np"}
    picture = pipeline("a red thing", generator=Streams(8)("draw").generator(), **words).images[0]
    assert picture.shape == (SIDE, SIDE, 3)
    assert np.isfinite(picture).all()
