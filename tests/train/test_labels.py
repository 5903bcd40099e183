"""Labels by machines, and the numbers that come with pairs, from a snapshot to a trained run."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from palate.core.problems import DataError, SettingError, StateError
from palate.core.streams import Streams
from palate.data.calibrated import calibrated_rewards, fronts
from palate.data.comparison import compare
from palate.data.store import Store
from palate.data.synthetic import LABELLED_PART, agreement_of
from palate.objectives import DPO, OBJECTIVES
from palate.train import facts, labels
from palate.train.facts import Scores, label_pairs
from palate.train.groups import NoiseSettings, Plan
from palate.train.labels import open_pairs
from palate.train.log import read_rows
from palate.train.loop import train
from palate.train.noise import Fresh
from palate.train.run import Run
from palate.train.step import Learner
from train.conftest import picture, small_run
from train.micro import Given, Micro, batch
from train.test_resume import CutError, same_run, stop_after


class Brightness:
    """Bright pictures score high; a picture of one shade scores nothing."""

    name, identity = "brightness", "brightness 1"

    def __init__(self) -> None:
        self.asked = 0

    def score(self, images, prompts):
        self.asked += len(images)
        return np.array([image.mean() / 10 if image.std() else math.nan for image in images])


def frozen(folder: Path, rows: list[dict], *, at_random: bool | None = None) -> Path:
    """A snapshot of rows whose `images` are (number, shade)."""
    store = Store(folder / "store")
    with store.writing():
        made = [
            compare(images=[store.put(picture(*each)) for each in row.pop("images")], **row)
            for row in rows
        ]
        store.add(made)
    if at_random is not None:
        store.note_import({LABELLED_PART: {"at_random": at_random}})
    return store.freeze(folder / "snapshot").path


def both_labelled(folder: Path, count: int = 24, *, at_random: bool | None = True) -> Path:
    """Every fourth pair judged by people: the bright one wins. A machine is 70 % for the first."""
    rows: list[dict] = []
    for i in range(count):
        images = [(2 * i, 0), (2 * i + 1, 120)]
        common = {"prompt": f"thing {i}", "images": images}
        rows.append({**common, "agreement": 0.7, "judge": "m", "source": "scorer"})
        if i % 4 == 0:
            rows.append({**common, "images": list(images), "agreement": 0.0, "judge": "p",
                         "source": "human"})  # fmt: skip
    return frozen(folder, rows, at_random=at_random)


def asked(run: Run, folder: Path):
    """The pairs of a run and what is known of them, as an opened run has them."""
    scores = Scores(folder=folder, device="cpu", tell=lambda _text: None)
    return label_pairs(run, open_pairs(run), scores)


def settings(model: Path, data: Path, method: str, **more) -> Run:
    return small_run(model, data).with_values({"objective.name": method, **more})


def test_a_machine_and_people_on_the_same_pictures_become_one_pair(model, tmp_path):
    """People chose the second picture; the machine gives it 0.3. Elsewhere 0.7 for the first."""
    run = settings(model, both_labelled(tmp_path), "dedpo")
    known = asked(run, tmp_path)
    assert len(known.pairs) == 24
    train_pairs, _ = known.pairs.split(by="prompt", held_out=0.2, seed=run.seed)
    judged = sum(pair.source == "human" for pair in train_pairs)
    for pair in known.pairs:
        by_people = pair.source == "human"
        assert pair.agreement == (1.0 if by_people else 0.7)
        assert known.facts["synthetic"][pair.id] == pytest.approx(0.3 if by_people else 0.7)
        ratio = len(train_pairs) / judged if by_people else 0.0
        assert known.facts["correction"][pair.id] == ratio


def test_pairs_without_a_machines_label_are_counted_and_refused(model, tmp_path):
    rows = [
        {"prompt": f"p{i}", "images": [(2 * i, 0), (2 * i + 1, 9)], "agreement": 1.0, "judge": "p",
         "source": "human"} for i in range(5)
    ]  # fmt: skip
    run = settings(model, frozen(tmp_path, rows), "dedpo")
    with pytest.raises(DataError, match="5 of 5 pairs without a machine's label"):
        asked(run, tmp_path)


def test_labelled_pairs_that_were_not_drawn_at_random_are_refused_unless_told(model, tmp_path):
    for at_random in (None, False):
        data = both_labelled(tmp_path / str(at_random), at_random=at_random)
        run = settings(model, data, "dedpo")
        with pytest.raises(DataError, match="6 of 24 pairs, and no record"):
            asked(run, tmp_path)
        told = run.with_values({"labels.any_draw": True})
        assert len(asked(told, tmp_path).pairs) == 24


def test_a_loser_that_won_elsewhere_in_its_half_of_the_split_is_redeemed(model, tmp_path):
    """A > b > c for each prompt: b loses once and wins once, c only loses."""
    rows = [
        {"prompt": f"p{i}", "images": images, "agreement": 1.0, "judge": "p", "source": "human"}
        for i in range(4)
        for images in ([(3 * i, 99), (3 * i + 1, 50)], [(3 * i + 1, 50), (3 * i + 2, 0)])
    ]
    known = asked(settings(model, frozen(tmp_path, rows), "kto"), tmp_path)
    bright = {name: known.pairs.image(name).mean() for pair in known.pairs for name in
              (pair.chosen, pair.rejected)}  # fmt: skip
    for pair in known.pairs:
        second = bright[pair.rejected] > 80
        assert known.facts["redeemed"][pair.id] == float(second)


def test_calibrated_rewards_are_expected_win_rates():
    """Scores 2, 0, 0: the first wins sigmoid(2) of both, the others half of each other."""
    win = 1 / (1 + math.exp(-2))
    found = calibrated_rewards(np.array([[2.0], [0.0], [0.0]]), 1.0)[:, 0]
    assert found == pytest.approx([win, (1 - win + 0.5) / 2, (1 - win + 0.5) / 2])
    plain = calibrated_rewards(np.array([[2.0], [0.0], [0.0]]), None)[:, 0]
    assert plain == pytest.approx([1.0, 0.25, 0.25])


def test_a_picture_that_another_beats_everywhere_is_not_on_the_upper_front():
    rewards = np.array([[0.9, 0.2], [0.5, 0.6], [0.4, 0.1]])
    upper, lower = fronts(rewards)
    assert upper.tolist() == [True, True, False]
    assert lower.tolist() == [False, False, True]


@pytest.mark.parametrize(
    ("difference", "sharpness", "expected"),
    [(0.5, 2.0, 1 / (1 + math.exp(-1.0))), (3.0, None, 1.0), (-3.0, None, 0.0), (0.0, None, 0.5),
     (1e9, 1.0, 1.0), (-1e9, 1.0, 0.0)],
)  # fmt: skip
def test_a_difference_of_scores_is_a_probability(difference, sharpness, expected):
    assert agreement_of(difference, sharpness) == pytest.approx(expected, abs=1e-12)


@pytest.fixture
def brightness(monkeypatch) -> Brightness:
    """A scorer that counts what it is asked, under every name."""
    scorer = Brightness()
    monkeypatch.setattr(labels, "open_scorer", lambda _words, device: scorer)
    monkeypatch.setattr(labels, "check_scorer", lambda _words: None)
    return scorer


def shades(folder: Path, pairs: list[tuple[int, int, float]], **common) -> Path:
    """Pairs of pictures of these shades, with P(the first is preferred)."""
    rows = [
        {"prompt": f"p{i}", "images": [(2 * i, a), (2 * i + 1, b)], "agreement": agreement,
         "judge": "p", "source": "human", **common} for i, (a, b, agreement) in enumerate(pairs)
    ]  # fmt: skip
    return frozen(folder, rows)


def test_a_scorer_turns_pairs_round_where_it_disagrees(model, brightness, tmp_path):
    """Differences of about 12, 12 and 6 in score; ties of the data are judged as well."""
    data = shades(tmp_path, [(120, 0, 1.0), (120, 0, 0.0), (60, 0, 0.5)])
    run = settings(model, data, "dpo", **{"labels.scorer": "brightness"})
    known = asked(run, tmp_path)
    assert len(known.pairs) == 3
    for pair in known.pairs:
        best, other = (known.pairs.image(name) for name in (pair.chosen, pair.rejected))
        gap = best.mean() / 10 - other.mean() / 10
        assert pair.agreement == pytest.approx(1 / (1 + math.exp(-gap)))
        assert pair.source == "scorer"
    assert known.about["turned"] == 1
    hard = run.with_values({"labels.sharpness": None})
    assert {pair.agreement for pair in asked(hard, tmp_path).pairs} == {1.0}


def test_pictures_are_scored_once_and_never_again_on_the_same_cache(model, brightness, tmp_path):
    run = settings(
        model, shades(tmp_path, [(90, 0, 1.0), (50, 9, 0.0)]), "dpo",
        **{"labels.scorer": "brightness"},
    )  # fmt: skip
    first = asked(run, tmp_path / "cache")
    assert brightness.asked == 4
    again = asked(run, tmp_path / "cache")
    assert brightness.asked == 4
    assert again.pairs.digest == first.pairs.digest
    brightness.identity = "brightness 2"
    asked(run, tmp_path / "cache")
    assert brightness.asked == 8
    next((tmp_path / "cache" / "scores").glob("*.json")).write_text("[[1]")
    asked(run, tmp_path / "cache")
    assert brightness.asked in (8, 12)


def test_scores_that_were_told_survive_an_interruption(model, brightness, tmp_path, monkeypatch):
    """Two pictures at once and told each time; the third time the power goes."""
    monkeypatch.setattr(labels, "AT_ONCE", 2)
    monkeypatch.setattr(labels, "TOLD_EVERY", 1)
    plain = brightness.score

    def score(images, prompts):
        if brightness.asked == 4:
            raise CutError
        return plain(images, prompts)

    data = shades(tmp_path, [(90, 0, 1.0), (50, 9, 0.0), (70, 20, 1.0), (60, 8, 1.0)])
    run = settings(model, data, "dpo", **{"labels.scorer": "brightness"})
    with monkeypatch.context() as patch:
        patch.setattr(brightness, "score", score)
        with pytest.raises(CutError):
            asked(run, tmp_path / "cache")
    asked(run, tmp_path / "cache")
    assert brightness.asked == 8


def test_a_score_that_is_not_a_number_leaves_its_pair_out(model, brightness, tmp_path, monkeypatch):
    data = shades(tmp_path, [(90, 0, 1.0), (50, 9, 1.0)])
    plain = brightness.score

    def score(images, prompts):
        said = plain(images, prompts)
        return np.where([text == "p0" for text in prompts], math.nan, said)

    monkeypatch.setattr(brightness, "score", score)
    run = settings(model, data, "dpo", **{"labels.scorer": "brightness"})
    known = asked(run, tmp_path)
    assert [pair.prompt for pair in known.pairs] == ["p1"]
    assert known.about["left_out"] == 1


def test_gaps_in_calibrated_rewards_of_two_pictures_are_twice_the_win_rate_less_one(
    model, brightness, tmp_path
):
    data = shades(tmp_path, [(30, 0, 0.0), (0, 7, 1.0)])
    run = settings(model, data, "capo", **{"labels.scorers": ["brightness"]})
    known = asked(run, tmp_path)
    for pair in known.pairs:
        best, other = (known.pairs.image(name).mean() / 10 for name in (pair.chosen, pair.rejected))
        win = 1 / (1 + math.exp(other - best))
        assert best > other
        assert known.facts["reward_gap"][pair.id] == pytest.approx(2 * win - 1)
        assert pair.agreement == pytest.approx(win)


def test_a_pair_whose_winner_another_picture_beats_is_not_kept(model, brightness, tmp_path):
    """Three pictures of one prompt, 200 > 100 > 0: only the first against the last is kept."""
    three = [(0, 120), (1, 60), (2, 0)]
    rows = [
        {"prompt": "p", "images": [three[a], three[b]], "agreement": 1.0, "judge": "p",
         "source": "human"} for a, b in ((0, 1), (1, 2), (2, 0))
    ]  # fmt: skip
    run = settings(model, frozen(tmp_path, rows), "capo", **{"labels.scorers": ["brightness"]})
    known = asked(run, tmp_path)
    assert len(known.pairs) == 1
    assert known.pairs.image(known.pairs[0].chosen).mean() > 120
    assert known.pairs.image(known.pairs[0].rejected).mean() < 70
    assert known.about["off the fronts"] == 2


@pytest.mark.parametrize(
    ("method", "more", "message"),
    [
        ("dpo", {"labels.synthetic": "self"}, "an objective that reads synthetic"),
        ("kto", {"labels.scorers": ["world"]}, "an objective that reads reward_gap"),
        ("dedpo", {"labels.scorer": "world"}, "beside the machine's, not under them"),
    ],
)
def test_labels_that_an_objective_does_not_read_are_refused(model, data, method, more, message):
    with pytest.raises(SettingError, match=message):
        open_pairs(settings(model, data, method, **more))


def test_labels_of_pairs_that_nobody_gives_are_refused():
    with pytest.raises(SettingError, match="labels of pairs without data"):
        Run.from_values({"model": "shipped", "objective.name": "spo", "labels.scorer": "world"})


def test_the_model_labels_itself_at_a_noise_of_its_own():
    """At the reference it is undecided: target = 0.5 + c (z - 0.5). Moved, it is not."""
    objective, plan = OBJECTIVES["dedpo"](), Plan(batch=4, steps=2, device="cpu")
    correction = torch.tensor([2.0, 0, 0, 2], dtype=torch.float64)
    facts = {"synthetic": torch.zeros_like(correction), "correction": correction}
    pairs = replace(batch(4), facts=facts)
    other = Fresh(streams=Streams(0), path=Micro().path, settings=NoiseSettings(), purpose="own ")
    start = Learner(Micro(), objective, Given(), plan, {"synthetic": other}).look(pairs)
    expected = 0.5 + pairs.facts["correction"] * (pairs.agreement - 0.5)
    torch.testing.assert_close(start["target"], expected, rtol=0, atol=1e-12)
    moved = Learner(Micro().move(0.02), objective, Given(), plan, {"synthetic": other})
    found = moved.look(pairs)
    there = Learner(Micro().move(0.02), objective, other, plan).look(pairs)
    own = torch.sigmoid(there["logit"])
    expected = own + pairs.facts["correction"] * (pairs.agreement - own)
    torch.testing.assert_close(found["target"], expected, rtol=0, atol=1e-12)
    assert not torch.allclose(found["logit"], there["logit"])


def test_no_gradient_flows_through_the_models_own_labels():
    """Fixed labels of the same value give the very same gradient."""
    objective, plan = OBJECTIVES["dedpo"](), Plan(batch=4, steps=2, device="cpu")
    correction = torch.tensor([2.0, 0, 0, 2], dtype=torch.float64)
    other = Fresh(streams=Streams(0), path=Micro().path, settings=NoiseSettings(), purpose="own ")
    backbones = [Micro().move(0.02), Micro().move(0.02)]
    own = torch.sigmoid(Learner(backbones[0], DPO(), other, plan).look(batch(4))["logit"])
    labelled = [replace(batch(4), facts={"synthetic": each, "correction": correction})
                for each in (torch.zeros_like(own), own)]  # fmt: skip
    Learner(backbones[0], objective, Given(), plan, {"synthetic": other})._gradients(labelled[0], 0)
    Learner(backbones[1], objective, Given(), plan)._gradients(labelled[1], 0)
    for name, weight in backbones[0].trainable().items():
        fixed = backbones[1].trainable()[name]
        torch.testing.assert_close(weight.grad, fixed.grad, rtol=1e-9, atol=1e-12)


def test_a_run_does_not_go_on_with_other_facts(model, data, cache, tmp_path, monkeypatch):
    """The pairs are the same; what is known of them comes out otherwise the second time."""
    run = settings(model, data, "kto", **{"plan.steps": 2, "plan.save_every": 1})
    known, out = asked(run, tmp_path), tmp_path / "out"
    other = replace(known, facts={"redeemed": {pair.id: 1.0 for pair in known.pairs}})
    assert known.digest != other.digest
    with pytest.raises(CutError):
        train(run, out, cache=cache, on_event=stop_after(1))
    with monkeypatch.context() as patch:
        patch.setitem(facts.FACTS, "redeemed", lambda _run, _pairs, _scores: other)
        with pytest.raises(StateError, match=f"Got facts {other.digest[:16]}"):
            train(run, out, cache=cache, resume=True)
    assert train(run, out, cache=cache, resume=True).steps == 2


SLOW = pytest.mark.slow
RUNS = {
    "kto": ({}, {"redeemed"}),
    "dedpo": ({}, {"correction", "training pairs", "labelled by people"}),
    "capo": ({}, set()),
    "dedpo by itself": ({"labels.synthetic": "self"}, {"correction"}),
}


@pytest.mark.parametrize(
    "which",
    [name if name.startswith("dedpo") else pytest.param(name, marks=SLOW) for name in RUNS],
)
def test_a_run_learns_with_facts_of_its_own(model, cache, tmp_path, which):
    more, about = RUNS[which]
    steps = {"plan.steps": 2, "plan.health_every": 2}
    method = which.partition(" ")[0]
    run = settings(model, both_labelled(tmp_path), method, **more, **steps)
    result = train(run, tmp_path / "run", cache=cache)
    assert result.steps == 2
    rows = read_rows(tmp_path / "run" / "log.jsonl")
    assert all(math.isfinite(row["loss"]) for row in rows)
    record = json.loads((tmp_path / "run" / "record.json").read_text())
    assert set(record["labels"]) >= about


@SLOW
def test_a_resumed_run_that_labels_itself_has_the_bits_of_one_that_never_stopped(
    model, cache, tmp_path
):
    more = {"labels.synthetic": "self", "plan.steps": 4, "plan.save_every": 1, "plan.keep_last": 9}
    run = settings(model, both_labelled(tmp_path), "dedpo", **more)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train(run, whole, cache=cache)
    with pytest.raises(CutError):
        train(run, broken, cache=cache, on_event=stop_after(2))
    train(run, broken, cache=cache, resume=True)
    same_run(whole, broken)
