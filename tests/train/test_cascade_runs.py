"""Trainings of Stable Cascade's stage C, loaded in plain diffusers: all weights, and for users."""

import pytest
import torch
from diffusers import StableCascadePriorPipeline

from backbones import keyed_effnet, tiny_cascade
from palate.backbones import load
from palate.backbones.personal import listen
from palate.core.files import read_json
from palate.core.streams import Streams
from palate.objectives import OBJECTIVES
from palate.train.log import read_rows
from palate.train.loop import train
from palate.train.users import read_users
from train.conftest import WORDS
from train.methods import data_for, run_of, smaller

pytestmark = pytest.mark.slow
TIMES = torch.tensor([0.1, 0.7])


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A folder of stage C with the picture encoder beside its parts. Read only."""
    folder = tmp_path_factory.mktemp("cascade") / "model"
    tiny_cascade.prior([f"a {word} thing" for word in WORDS]).save_pretrained(folder)
    keyed_effnet.write(folder)
    return folder


@pytest.fixture(scope="module", params=["dpo", "ppd"])
def run(request, model, tmp_path_factory):
    """A finished run of two steps, and its method. Read only."""
    objective, out = OBJECTIVES[request.param], tmp_path_factory.mktemp("runs") / request.param
    told = {**smaller(objective), "plan.steps": 2, "plan.batch": 2, "plan.health_every": 2,
            "pictures.resolution": 128}  # fmt: skip
    data = data_for(objective, tmp_path_factory.mktemp("data"), 8)
    settings = run_of(objective, model, data, **told).with_values({"adapter": None})
    train(settings, out, cache=model.parent / "cache")
    return request.param, out


def answer(pipeline, noisy, told):
    """What a pipeline's network says of noisy latents."""
    with torch.no_grad():
        return pipeline.prior(
            noisy, TIMES, clip_text_pooled=told["pooled"][:, None], clip_text=told["text"],
            clip_img=torch.zeros(2, 1, tiny_cascade.IMAGE),
        ).sample  # fmt: skip


def test_plain_diffusers_says_what_the_run_learned(run, model):
    method, out = run
    assert read_json(out / "record.json")["status"] == "finished"
    rows = read_rows(out / "log.jsonl")
    assert all(row["skipped"] is None and row["gradient_norm"] > 0 for row in rows), rows
    learned, base = load(model, weights=out / "export"), load(model)
    noisy = Streams(8)("noisy").normal((2, 16, 3, 3))
    told, user = learned.embed(["a red thing", ""]), None
    if method == "ppd":
        user = torch.stack([next(iter(read_users(out / "export").values()))] * 2)
        pipeline = StableCascadePriorPipeline.from_pretrained(model)
        listen(pipeline, out / "export").draw_for(user)
        assert torch.equal(learned.predict(noisy, TIMES, told), base.predict(noisy, TIMES, told))
    else:
        pipeline = StableCascadePriorPipeline.from_pretrained(out / "export")
    found = answer(pipeline, noisy, told.tensors)
    ours = learned.predict(noisy, TIMES, told.with_user(user))
    torch.testing.assert_close(found, ours, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(found, base.predict(noisy, TIMES, told), atol=1e-5)
