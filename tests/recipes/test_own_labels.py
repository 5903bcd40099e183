"""What a trained model prefers, asked of a real run on a micro model."""

import math
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from palate.core.files import digest_json
from palate.core.problems import SettingError, StateError
from palate.core.streams import Streams
from palate.data.store import Store
from palate.label import Journal, Question
from palate.label.fill import fill
from palate.objectives import OBJECTIVES
from palate.recipes.labels import hire
from palate.recipes.own_labels import OwnLabeler
from palate.recipes.taught import Taught, open_taught, run_and_step
from palate.train.cache import View, cut
from palate.train.loop import train
from palate.train.run import Run
from train.conftest import micro_model, small_run, snapshot
from train.methods import run_of, smaller

BETA = 2000.0


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, eight pairs, and a run that moved away from its reference on them."""
    folder = tmp_path_factory.mktemp("own")
    run = small_run(micro_model(folder / "model"), snapshot(folder, 8))
    run = run.with_values({"plan.steps": 4, "objective.beta": BETA, "plan.learning_rate": 1e-2})
    run = run.with_values({"plan.save_every": 2})
    train(run, folder / "run")
    return folder


@pytest.fixture(scope="module")
def taught(place: Path) -> Taught:
    return open_taught(place / "run")


@pytest.fixture
def store(place: Path, tmp_path: Path) -> Store:
    shutil.copytree(place / "store", tmp_path / "store")
    return Store(tmp_path / "store")


def ignore(done: int, total: int) -> None:
    """Nobody listens."""


def own_rows(store: Store) -> list:
    return [row for row in store.rows() if row.source == "self"]


def test_a_label_says_which_model_made_it_and_how(store: Store, taught: Taught) -> None:
    filled = fill(store, OwnLabeler(taught), told=ignore)
    assert (filled.asked, filled.labelled) == (8, 8)
    assert filled.agree is not None
    row = own_rows(store)[0]
    assert row.judge.startswith("own dpo ")
    signature = row.signature
    assert (signature["step"], signature["beta"], signature["method"]) == (4, BETA, "dpo")
    assert signature["run"] == taught.run.digest
    assert signature["weights"] == taught.backbone.applied
    assert len(signature["levels"]) == len(signature["logits"]) == signature["draws"] == 8
    assert len(set(signature["levels"])) > 4
    assert len({row.agreement for row in own_rows(store)}) == 8


def test_a_label_is_the_mean_of_its_draws_as_computed_by_hand(store: Store, taught: Taught) -> None:
    """Errors of policy and reference at the recorded levels, with the keyed noise, in float64."""
    fill(store, OwnLabeler(taught, draws=3), told=ignore, limit=1)
    (row,) = own_rows(store)
    backbone, path = taught.backbone, taught.backbone.path
    images = [store.image(image.sha256) for image in row.images]
    side = backbone.resolution
    pixels = torch.stack([torch.tensor(cut(each, View(), side)) for each in images])
    clean, _ = backbone.encode(pixels)
    told = backbone.embed([row.prompt] * 2)
    chances = []
    name = digest_json((row.prompt, *(image.sha256 for image in row.images)))
    for draw, (level, logit) in enumerate(
        zip(row.signature["levels"], row.signature["logits"], strict=True)
    ):
        streams = Streams(taught.run.seed)
        assert level == streams("own label level", draw, name).integer(0, path.levels)
        noise = streams("own label noise", draw, name).normal(tuple(clean.shape[1:]))
        noise = torch.stack([noise, noise])
        levels = torch.tensor([level, level])
        noisy, target = path.noisy(clean, noise, levels), path.target(clean, noise, levels)
        with torch.no_grad():
            policy = backbone.predict(noisy, levels, told)
            with backbone.as_reference():
                reference = backbone.predict(noisy, levels, told)

        def error(answer: torch.Tensor, wanted: torch.Tensor = target) -> torch.Tensor:
            return (answer.double() - wanted.double()).square().flatten(1).mean(1)

        gain = error(reference) - error(policy)
        assert logit == pytest.approx(0.5 * BETA * float(gain[0] - gain[1]), rel=1e-3, abs=1e-3)
        chances.append(1 / (1 + math.exp(-logit)))
    assert row.agreement == pytest.approx(sum(chances) / 3)


def test_hard_labels_are_the_soft_ones_rounded_and_nothing_is_asked_again(
    store: Store, taught: Taught, monkeypatch: pytest.MonkeyPatch
) -> None:
    soft = OwnLabeler(taught)
    fill(store, soft, told=ignore)
    hard = OwnLabeler(taught, sharpness=None)
    assert (soft.asks, soft.judge != hard.judge) == (hard.asks, True)
    monkeypatch.setattr(OwnLabeler, "_ask", lambda *_: pytest.fail("asked again"))
    fill(store, hard, told=ignore)
    by_judge = {
        judge: {row.images: row.agreement for row in own_rows(store) if row.judge == judge}
        for judge in (soft.judge, hard.judge)
    }
    for images, agreement in by_judge[soft.judge].items():
        assert by_judge[hard.judge][images] == float(agreement > 0.5)


def test_an_answer_does_not_depend_on_who_is_asked_beside_it(
    store: Store, taught: Taught, tmp_path: Path
) -> None:
    shutil.copytree(store.folder, tmp_path / "other")
    other = Store(tmp_path / "other")
    fill(store, OwnLabeler(taught, draws=2), told=ignore)
    fill(other, OwnLabeler(taught, draws=2), told=ignore, limit=3)
    every, few = ({row.images: row.agreement for row in own_rows(each)} for each in (store, other))
    assert (len(every), len(few)) == (8, 3)
    for images, agreement in few.items():
        assert agreement == pytest.approx(every[images], abs=1e-9)


def test_margins_that_are_not_finite_make_no_label(
    store: Store, taught: Taught, tmp_path: Path
) -> None:
    labeler = OwnLabeler(taught, draws=2)
    fill(store, labeler, told=ignore, limit=1)
    (row,) = own_rows(store)
    question = Question(prompt=row.prompt, images=row.images)
    with Journal(tmp_path / "journal.jsonl") as journal:
        for value, reason in (
            ({"levels": [1, 2], "margins": [0.0, "nan"]}, "not-finite"),
            ({"refused": "latents"}, "latents"),
        ):
            journal.keep(digest_json(question.key), value)
            ((_, answer),) = labeler.label([question], store.image, journal, ignore)
            assert (answer.agreement, answer.reason) == (None, reason)


@pytest.mark.slow
def test_a_wholly_trained_model_is_asked_against_its_base(
    place: Path, store: Store, tmp_path: Path
) -> None:
    run = Run.from_yaml(place / "run" / "run.yaml").with_values(
        {"adapter": None, "plan.learning_rate": 1e-4}
    )
    train(run, tmp_path / "whole")
    exported = answers(store, open_taught(tmp_path / "whole"))
    assert len(set(exported.values())) == 8
    saved = answers(store, open_taught(tmp_path / "whole", step=4))
    for images, agreement in exported.items():
        assert saved[images] == pytest.approx(agreement, abs=1e-6)


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("sft", "has no β against a reference"),
        ("npo", "a model of what people reject"),
        ("d3po", "worth steps of pictures it drew"),
        ("ppd", "a run that follows people"),
    ],
)
def test_runs_without_a_preference_of_their_own_are_refused(
    place: Path, tmp_path: Path, method: str, message: str
) -> None:
    objective = OBJECTIVES.named(method)
    folder = tmp_path / "run"
    folder.mkdir()
    data = None if objective.needs.scorer else place / "snapshot"
    run = run_of(objective, place / "model", data, **smaller(objective))
    (folder / "run.yaml").write_text(run.to_yaml())
    with pytest.raises(SettingError, match=message):
        open_taught(folder)


def test_a_folder_that_is_no_finished_run_is_refused(place: Path, tmp_path: Path) -> None:
    with pytest.raises(StateError, match="which is no run"):
        open_taught(tmp_path)
    shutil.copy(place / "run" / "run.yaml", tmp_path)
    with pytest.raises(StateError, match=r"no whole checkpoint in .*palate resume"):
        open_taught(tmp_path)


def stopped(place: Path, to: Path) -> Path:
    """The run as one that stopped after its last checkpoint, before it exported anything."""
    shutil.copytree(place / "run", to)
    shutil.rmtree(to / "export")
    return to


def answers(store: Store, taught: Taught) -> dict:
    labeler = OwnLabeler(taught, draws=2)
    fill(store, labeler, told=ignore)
    return {row.images: row.agreement for row in own_rows(store) if row.judge == labeler.judge}


def test_a_run_that_stopped_is_asked_at_its_newest_whole_checkpoint(
    place: Path, store: Store, taught: Taught, tmp_path: Path
) -> None:
    """The last checkpoint of a run that then finished says what its export says."""
    run = stopped(place, tmp_path / "stopped")
    opened = open_taught(run)
    assert opened.steps == 4
    said, exported = answers(store, opened), answers(store, taught)
    assert len(said) == 8
    for images, agreement in exported.items():
        assert said[images] == pytest.approx(agreement, abs=1e-6)
    row = own_rows(store)[0]
    assert (row.signature["step"], row.signature["weights"]) == (4, opened.trained)
    # Damaged, it is passed over for the one before, and nothing in the folder is put right.
    (weights,) = (run / "checkpoints" / "step-000004").glob("weights*")
    weights.write_bytes(weights.read_bytes()[:-1])
    (run / "checkpoints" / ".unfinished-by-a-trainer").mkdir()
    assert open_taught(run).steps == 2
    assert (run / "checkpoints" / ".unfinished-by-a-trainer").is_dir()
    with pytest.raises(StateError, match="no whole checkpoint of step 4"):
        open_taught(run, step=4)


def test_a_checkpoint_is_named_by_its_step_and_is_another_judge(
    place: Path, store: Store, taught: Taught
) -> None:
    hired = hire([f"own:{place / 'run'}@2"], settings={"draws": 2})
    fill(store, hired.labeler, told=ignore)
    rows = own_rows(store)
    assert {row.signature["step"] for row in rows} == {2}
    later = answers(store, taught)
    assert all(abs(later[row.images] - row.agreement) > 1e-6 for row in rows)
    assert len({row.judge for row in own_rows(store)}) == 2
    with pytest.raises(StateError, match=r"step 3 in .*Need one of the steps that are there: 2, 4"):
        hire([f"own:{place / 'run'}@3"])


def test_a_checkpoint_of_another_model_is_refused(place: Path, tmp_path: Path) -> None:
    run = stopped(place, tmp_path / "stopped")
    shutil.copytree(place / "model", tmp_path / "model")
    weights = tmp_path / "model" / "unet" / "diffusion_pytorch_model.safetensors"
    save_file({n: t * 2 for n, t in load_file(weights).items()}, weights, metadata={"format": "pt"})
    settings = (run / "run.yaml").read_text()
    (run / "run.yaml").write_text(settings.replace(str(place / "model"), str(tmp_path / "model")))
    with pytest.raises(StateError, match="another model unet than when"):
        open_taught(run)


def test_a_folder_whose_name_ends_like_a_step_is_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "run@2"
    assert run_and_step(str(folder)) == (tmp_path / "run", 2)
    folder.mkdir()
    assert run_and_step(str(folder)) == (folder, None)
    assert run_and_step(f"{folder}@7") == (folder, 7)
    assert run_and_step(str(tmp_path / "run@last")) == (tmp_path / "run@last", None)


def test_settings_that_make_no_sense_are_refused(taught: Taught) -> None:
    with pytest.raises(SettingError, match="Got 0 draws"):
        OwnLabeler(taught, draws=0)
    with pytest.raises(SettingError, match="Got sharpness -1"):
        OwnLabeler(taught, sharpness=-1.0)
