"""Labels by machines, and the numbers that come with pairs, from a snapshot to a trained run."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from palate.core.problems import DataError
from palate.data.comparison import compare
from palate.data.store import Store
from palate.data.synthetic import LABELLED_PART, agreement_of
from palate.train.facts import Scores, calibrated_rewards, fronts, label_pairs
from palate.train.labels import open_pairs
from palate.train.log import read_rows
from palate.train.loop import train
from palate.train.run import Run
from train.conftest import picture, small_run


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
    plain = calibrated_rewards(np.array([[2.0], [0.0], [0.0]]), 0.0)[:, 0]
    assert plain == pytest.approx([1.0, 0.25, 0.25])


def test_a_picture_that_another_beats_everywhere_is_not_on_the_upper_front():
    rewards = np.array([[0.9, 0.2], [0.5, 0.6], [0.4, 0.1]])
    upper, lower = fronts(rewards)
    assert upper.tolist() == [True, True, False]
    assert lower.tolist() == [False, False, True]


@pytest.mark.parametrize(
    ("difference", "temperature", "expected"),
    [(0.5, 2.0, 1 / (1 + math.exp(-1.0))), (3.0, 0.0, 1.0), (-3.0, 0.0, 0.0), (0.0, 0.0, 0.5),
     (1e9, 1.0, 1.0), (-1e9, 1.0, 0.0)],
)  # fmt: skip
def test_a_difference_of_scores_is_a_probability(difference, temperature, expected):
    assert agreement_of(difference, temperature) == pytest.approx(expected, abs=1e-12)


METHODS = {
    "kto": {},
    "dedpo": {},
    "capo": {},
}


@pytest.mark.parametrize("method", METHODS)
def test_a_run_learns_with_facts_of_its_own(model, cache, tmp_path, method):
    data = both_labelled(tmp_path)
    run = settings(model, data, method, **{"plan.steps": 2, "plan.health_every": 2})
    result = train(run, tmp_path / "run", cache=cache)
    assert result.status == "finished" or result.steps == 2
    rows = read_rows(tmp_path / "run" / "log.jsonl")
    assert all(math.isfinite(row["loss"]) for row in rows)
    record = json.loads((tmp_path / "run" / "record.json").read_text())
    assert (
        set(record["labels"])
        >= {"kto": {"redeemed"}, "dedpo": {"correction"}, "capo": set()}[method]
    )
