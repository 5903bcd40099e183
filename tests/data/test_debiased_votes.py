"""On real human votes DeDPO's answer is unbiased and covers; pooling labels is and does not."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(scope="module")
def lab(repository: Path):
    """The experiment `lab/votes/debiased.py`, as a module."""
    path = repository / "lab" / "votes" / "debiased.py"
    spec = importlib.util.spec_from_file_location("debiased_votes", path)
    module = importlib.util.module_from_spec(spec)
    before = list(sys.path)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    sys.path[:] = before
    return module


@pytest.fixture(scope="module")
def folder(repository: Path) -> Path:
    place = repository.parent / "shared" / "data" / "votes"
    if not (place / "tifa160_metric_scores.json").is_file():
        pytest.skip(f"{place} does not hold the public votes that lab/votes/read.py names")
    return place


@pytest.fixture(scope="module")
def rows(lab, folder: Path) -> dict[tuple[str, str, str], dict]:
    votes = lab.load(folder)
    made = lab.rows_of(votes, lab.draws(300, len(votes.people)))
    return {(row["labeler"], row["estimator"], row["kind"]): row for row in made
            if row["of"] == "all"}  # fmt: skip


def test_the_population_is_as_the_page_says(lab, folder):
    """160 prompts, and ten pairs of models each."""
    votes = lab.load(folder)
    assert len(votes.people) == 1600
    assert np.bincount(votes.duel).tolist() == [160] * 10
    assert 0 <= votes.people.min() < 0.5 < votes.people.max() <= 1


@pytest.mark.parametrize("labeler", ["clip hard", "clip tuned", "tifa hard", "ten metrics tuned"])
@pytest.mark.parametrize("kind", ["share", "strength"])
def test_debiased_covers_and_pooled_does_not(rows, labeler, kind):
    """300 subsets: the interval of the coverage must reach 95 %, or be near; pooled is far off."""
    good, bad = rows[labeler, "debiased", kind], rows[labeler, "pooled", kind]
    assert good["low"] <= 0.95 <= good["high"] + 0.01
    assert bad["high"] < 0.75
    # Over ten or five answers, the root mean square of pure noise is about its standard error.
    assert good["bias"] < 2 * good["bias_noise"]
    assert bad["bias"] > 30 * bad["bias_noise"]
    assert good["said_error"] == pytest.approx(good["sd"], rel=0.1)


def test_what_labels_are_worth_comes_true(lab, folder, rows):
    """The ratio that the package reports foretells the variance of DeDPO's answers."""
    votes = lab.load(folder)
    drawn = lab.draws(300, len(votes.people))
    told = lab.worths(votes, drawn, list(rows.values()))
    for name in ("clip hard", "clip tuned", "ten metrics tuned"):
        met = told[name]["variance_ratio"]["share"]
        assert met == pytest.approx(told[name]["ratio_on_all_pairs"], rel=0.12)
    assert told["clip hard"]["verdict"].startswith("worth nothing to DeDPO")
    assert told["clip tuned"]["verdict"].startswith("worth about ")
