"""A run that follows people: its settings, what it learns, and what it leaves behind."""

import math
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from safetensors.torch import load_file

from palate.backbones import load
from palate.backbones.backbone import Condition
from palate.backbones.guidance import guided
from palate.core.files import read_json
from palate.core.problems import SettingError
from palate.core.streams import Streams
from palate.data.pairs import PreferencePairs
from palate.scorers.users_pooled import Pooling
from palate.scorers.users_vision import Reading
from palate.train.batch import Batches
from palate.train.cache import Cache
from palate.train.changes import settled
from palate.train.examples import open_book
from palate.train.groups import Pictures
from palate.train.log import Event
from palate.train.loop import train
from palate.train.personal import KINDS
from palate.train.run import Run
from palate.train.tastes import fit_tastes
from palate.train.users import (
    Learned,
    Users,
    check_encoder,
    open_user_encoder,
    read_users,
    write_users,
)
from scorers.tiny_vision import FAMILIES, build
from train.people import people

SMALL = {"plan.steps": 4, "plan.batch": 4, "plan.learning_rate": 1e-2, "plan.health_every": 4,
         "plan.save_every": 4, "plan.tensorboard": "off", "plan.device": "cpu", "health.pairs": 4,
         "health.stop": False, "split.held_out": 0.2, "personal.subsets": 3, "personal.width": 8,
         "personal.dropout": 0.0}  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return people(tmp_path_factory.mktemp("people"))


def read(**more: Any) -> Run:
    return Run.from_values({"model": "m", "data": "d", **more})


def small(model: Path, data: Path, **more: Any) -> Run:
    told = {"model": str(model), "data": str(data), "seed": 3, "objective.name": "ppd"}
    return Run.from_values({**told, **SMALL, **more})


def test_people_are_followed_without_adapters_beside_any_method():
    for run in (read(**{"objective.name": "ppd"}), read(**{"personal.users": "learned"})):
        assert run.personal is not None
        assert run.adapter is None
        assert run.build_adapter() is None
        assert Run.from_yaml_text(run.to_yaml()) == run
    assert read().personal is None
    assert read().adapter is not None


def test_another_method_leaves_what_ppd_brought_and_takes_the_adapters_place():
    run = read(**{"objective.name": "ppd"})
    plain = run.with_values({"objective.name": "dpo"})
    assert plain.personal is None
    assert plain == read()
    assert plain.with_values({"objective.name": "ppd"}) == run
    chosen = read(**{"personal.users": "learned"}).with_values({"objective.name": "ipo"})
    assert chosen.personal is not None
    assert chosen.personal.learned


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"objective.name": "ppd", "personal": None}, "ppd without the group personal"),
        ({"objective.name": "ppd", "adapter.rank": 4}, "both personal and adapter"),
        ({"personal.users": "visoin:x"}, r"Did you mean vision:FOLDER"),
        ({"personal.users": "clip"}, r"Did you mean clip:FOLDER"),
        ({"personal.users": "looks:x"}, r"Did you mean looks\?"),
        ({"personal.users": "somebody"}, "Need looks, clip:FOLDER, vision:FOLDER, taste:F"),
        ({"personal.layer": 3}, r"personal\.layer=3 with personal\.users=looks"),
        ({"personal.users": "clip:x", "personal.prompt": "w"}, r"personal\.prompt=w with"),
        ({"personal.pooling": "last"}, r"Got personal\.pooling='last'. Need one of mean, pairs"),
        ({"personal.users": "vision:x", "personal.pooling": "turnd"}, "Did you mean turned"),
        ({"personal.users": "taste:x", "personal.pooling": "mean"}, r"personal\.pooling=mean with"),
        ({"personal.users": "learned", "personal.examples": 2}, r"Leave out personal\.examples"),
        ({"personal.users": "learned", "split.by": "judge"}, "held-out pairs of people who have"),
        ({"personal.users": "looks", "rollout.steps": 4, "objective.name": "dpo"}, "group rollout"),
        ({"personal.users": "looks", "selfplay.iterations": 1}, "with the group selfplay"),
        ({"personal.users": "looks", "labels.scorer": "world"}, "labels of the people themselves"),
        ({"personal.users": "looks", "objective.name": "dedpo"}, "objective dedpo"),
        ({"personal.dropout": 1.5}, "less than or equal to 1"),
        ({"personal.order": "evenly"}, r"personal\.order='evenly'"),
    ],
)
def test_what_cannot_follow_people_is_refused(more, message):
    with pytest.raises(SettingError, match=message):
        read(**more)


def test_poolings_are_those_that_the_encoders_have():
    assert set(KINDS["vision"].poolings) == set(get_args(Reading))
    for name in ("looks", "clip"):
        assert set(KINDS[name].poolings) == set(get_args(Pooling))


def test_an_encoder_that_is_not_there_is_refused_by_name():
    check_encoder("looks")
    check_encoder("clip:owner/name")
    with pytest.raises(SettingError, match="a folder that is not there"):
        check_encoder("vision:./none")
    with pytest.raises(SettingError, match="examples of 1 people for learned vectors"):
        open_user_encoder("learned", people=["anna"]).embed([[]])


def test_the_folder_of_an_encoder_is_written_down_whole(tmp_path):
    run = read(**{"personal.users": f"clip:{tmp_path}/../{tmp_path.name}"})
    found = settled(run).personal
    assert found is not None
    assert found.users == f"clip:{tmp_path}"


def test_it_learns_whose_taste_is_whose_and_leaves_the_base_as_it_was(model, data, tmp_path):
    heard: list[Event] = []
    result = train(small(model, data), tmp_path / "out", on_event=heard.append)
    assert result.history[0]["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert all(row["gradient_norm"] > 0 for row in result.history)
    assert any("3 people and" in event.text for event in heard)
    record = read_json(result.out / "record.json")
    assert record["personal"]["people"] == 3
    lost = record["personal"]["left_out"]
    assert sum(lost[side].get("contradictory pairs", 0) for side in ("training", "held out")) == 4

    users = read_users(result.export)
    assert users.names == ("anna", "ben", "cleo")
    assert users.about["identity"] == record["personal"]["identity"]
    trained, base = load(model, weights=result.export), load(model)
    assert trained.personal is not None
    assert dict(trained.personal.about) == dict(users.about)
    noisy, level = Streams(0)("noisy").normal((1, 4, 16, 16)), torch.tensor([500])
    told = trained.embed(["a red thing"])

    def said(user: torch.Tensor | None) -> torch.Tensor:
        with torch.no_grad():
            whom = None if user is None else user[None]
            return trained.predict(noisy, level, told.with_user(whom))

    with torch.no_grad():
        before = base.predict(noisy, level, told)
    assert torch.equal(said(None), before)
    assert torch.equal(said(torch.zeros_like(users["anna"])), before)
    assert not torch.equal(said(users["anna"]), before)
    assert not torch.equal(said(users["anna"]), said(users["ben"]))
    card = (result.export / "README.md").read_text()
    for words in ("People: 3, with", "contradictory pairs", "--user NAME", "draw_for(user[None])",
                  "remove it before publishing"):  # fmt: skip
        assert words in card


@pytest.mark.parametrize(
    "more",
    [
        {"personal.users": "learned", "personal.subsets": 8, "personal.order": "uniform",
         "personal.cap": 4},
        {"objective.name": "inversion-dpo", "personal.users": "looks", "inversion.steps": 3,
         "inversion.guidance": 2.0, "pictures.latents": "mean"},
        {"objective.name": "sft", "personal.users": "looks", "plan.caption_dropout": 0.3},
    ],
    ids=["learned vectors, drawn evenly", "led back to noise, guided", "chosen pictures only"],
)  # fmt: skip
def test_other_ways_to_learn_follow_people_too(more, model, data, cache, tmp_path):
    result = train(small(model, data, **{"plan.steps": 2, **more}), tmp_path / "out", cache=cache)
    assert all(math.isfinite(row["loss"]) for row in result.history)
    assert any(row["gradient_norm"] > 0 for row in result.history)
    assert read_users(result.export).names


def test_tastes_that_saw_the_answers_are_told_by_the_run_and_on_its_card(
    model, data, cache, tmp_path
):
    fit_tastes(PreferencePairs.open(data), "looks", tmp_path / "space", dimensions=1)
    heard: list[Event] = []
    more = {"plan.steps": 1, "personal.users": f"taste:{tmp_path / 'space'}"}
    result = train(small(model, data, **more), tmp_path / "out", cache=cache,
                   on_event=heard.append)  # fmt: skip
    (told,) = [event.text for event in heard if "has seen their answers" in event.text]
    assert f"- Note: {told}" in (result.export / "README.md").read_text()


def test_the_card_of_learned_vectors_tells_how_they_are_read(model, data, cache, tmp_path):
    more = {"plan.steps": 1, "personal.users": "learned", "personal.subsets": 8}
    result = train(small(model, data, **more), tmp_path / "out", cache=cache)
    card, users = (result.export / "README.md").read_text(), read_users(result.export)
    lines = [line for line in card.splitlines() if line.startswith(("places =", "user ="))]
    found: dict[str, Any] = {"load_file": load_file, "torch": torch}
    exec("\n".join(lines).replace("FOLDER", str(result.export)), found)
    assert torch.equal(found["user"], users[users.names[0]])
    assert "import torch" in card
    assert "--user PAIRS" not in card


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_a_vision_model_tells_whose_taste_it_is_and_is_found_again(family, model, data, tmp_path):
    """Of the real classes, small and random: one step, and an encoder reopened from the export."""
    folder = build(family, tmp_path / family)
    settings = {"users": f"vision:{folder}", "layer": 1, "pooling": "pairs", "prompt": "Whom?",
                "examples": 2, "subsets": 2}  # fmt: skip
    told = {f"personal.{name}": value for name, value in settings.items()}
    result = train(small(model, data, **{"plan.steps": 1, **told}), tmp_path / "out")
    assert result.history[0]["gradient_norm"] > 0
    about = dict(read_users(result.export).about)
    assert {name: about[name] for name in settings if name != "subsets"} == {
        name: value for name, value in settings.items() if name != "subsets"
    }
    again = open_user_encoder(
        about["users"], pooling=about["pooling"], layer=about["layer"], prompt=about["prompt"],
        examples=about["examples"],
    )  # fmt: skip
    assert again.identity == about["identity"]
    assert read_users(result.export).tensor.shape == (3, 2, again.width)


def test_recomputed_activations_hear_the_same_users(model, data, cache, tmp_path):
    """The same weights after two steps, whether activations were kept or made again."""
    found: list[dict[str, torch.Tensor]] = []
    for again in (False, True):
        more = {"plan.steps": 2, "plan.gradient_checkpointing": again}
        result = train(small(model, data, **more), tmp_path / str(again), cache=cache)
        layers = load(model, weights=result.export, train=True).state()
        found.append({name: tensor.clone() for name, tensor in layers.items()})
    assert found[0].keys() == found[1].keys()
    for name, tensor in found[0].items():
        torch.testing.assert_close(found[1][name], tensor, rtol=1e-4, atol=1e-6)


def test_a_dropped_caption_drops_the_user_with_it(model, data, cache):
    run, pairs = small(model, data), PreferencePairs.open(data)
    book = open_book(run, pairs, cache, device="cpu", tell=lambda _text: None)
    assert book is not None
    backbone = load(model)
    kept = Cache(cache, backbone, backbone.resolution)
    kept.fill(backbone, pairs, Pictures(), pairs.image, lambda _text: None)
    mine = list(book.trained(pairs))[:8]

    def users(share: float) -> torch.Tensor:
        batches = Batches(cache=kept, pictures=Pictures(), streams=Streams(0), book=book,
                          caption_dropout=share)  # fmt: skip
        found = batches(mine, [0] * len(mine)).conditions
        assert found[0].user is not None
        assert torch.equal(found[0].user, found[1].user)
        return found[0].user.flatten(1).any(1)

    assert users(0.0).all()
    assert not users(1.0).any()


def test_guidance_drops_the_user_with_the_prompt():
    asked: list[Condition] = []

    class Asked:
        def predict(self, noisy, level, condition):
            asked.append(condition)
            return noisy

    user, text = torch.ones(2, 1, 3), torch.ones(2, 4, 5)
    told, empty = Condition({"text": text}).with_user(user), Condition({"text": text[:1] * 0})
    guided(Asked(), torch.zeros(2, 1, 1, 1), torch.zeros(2), told, empty, 2.0)  # pyright: ignore[reportArgumentType]
    assert asked[0].user is not None
    assert asked[0].user[:, 0, 0].tolist() == [0.0, 0.0, 1.0, 1.0]


def test_users_are_written_beside_the_weights_and_read_again(tmp_path):
    assert len(read_users(tmp_path)) == 0
    told = Users(names=("a/b", "c"), tensor=torch.randn(2, 3, 4, generator=torch.manual_seed(0)),
                 about={"identity": "x"})  # fmt: skip
    path = write_users(tmp_path, told)
    for place in (tmp_path, path):
        found = read_users(place)
        assert found.names == told.names
        assert torch.equal(found["a/b"], told["a/b"])
        assert dict(found.about) == {"identity": "x"}
    assert "b" not in told
    with pytest.raises(SettingError, match="one of the 2 people"):
        told.of("nobody else")


def test_learned_vectors_are_kept_as_a_number_each(tmp_path):
    """A one among zeros for everybody would be 100 MB of 5,000 people."""
    names = tuple(f"{place:04}" for place in range(5000))
    path = write_users(tmp_path, Users.of_vectors(names, {"identity": "x"}))
    assert path.stat().st_size < 1e6
    found = read_users(tmp_path)
    assert found.names == names
    row = found["0007"]
    assert row.shape == (1, 5000)
    assert row.dtype == torch.float32
    assert row.nonzero().tolist() == [[0, 7]]
    assert torch.equal(found.of("0007"), Learned(names).known(["0007"])[0])
