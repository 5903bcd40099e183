"""Real human votes: the figures that are published with them come out again, to the last pair."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from palate.data.agreement import alpha, ballots, contradictory, pairwise_agreement
from palate.data.judges import judges_of
from palate.data.votes import votes_of

KEPT = ("two_workers_agree", "contradictory", "alpha_of_pairs")


@pytest.fixture(scope="module")
def reader(repository: Path) -> ModuleType:
    """The lab's reader, which is no part of the package."""
    place = repository / "lab" / "votes" / "read.py"
    found = importlib.util.spec_from_file_location("lab_votes_read", place)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    sys.modules["lab_votes_read"] = module
    found.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def rated(repository: Path, reader: ModuleType):
    folder = repository.parent / "shared" / "data" / "votes"
    if not all((folder / name).is_file() for name in reader.DIGESTS):
        pytest.skip(f"the public vote files are not in {folder}")
    return reader.read(folder)


@pytest.fixture(scope="module")
def votes(rated, reader: ModuleType):
    return votes_of(reader.comparisons(rated))


def test_the_files_join_on_every_picture(rated):
    assert len(rated) == 800
    assert len({each.item for each in rated}) == 160
    assert sum(len(each.ratings) for each in rated) == 3995


def test_of_1204_pairs_with_two_strict_votes_342_are_contradictory(votes):
    judged = ballots(votes)
    found = contradictory(judged)
    assert found is not None
    assert found.measurements == 1204
    assert round(found.value * found.measurements) == 342
    same = pairwise_agreement(judged)
    assert same is not None
    assert same.value == pytest.approx(0.807, abs=5e-4)


def test_clipscore_agrees_with_the_human_order_on_867_of_1343_pairs(rated, reader):
    """The order is that of the five workers' mean ratings: 64.6 %."""
    pairs = [(a, b) for a, b in reader.pairs_of(rated) if a.mean != b.mean]
    same = [
        (a.scores["clipscore_vitb32"] > b.scores["clipscore_vitb32"]) == (a.mean > b.mean)
        for a, b in pairs
    ]
    assert (sum(same), len(pairs)) == (867, 1343)


def test_every_worker_is_better_than_chance_and_none_is_perfect(votes):
    facts = judges_of(votes, ballots(votes))
    assert len(facts) == 5
    for each in facts:
        assert each.agreement is not None
        assert 0.75 < each.agreement.low < each.agreement.value < each.agreement.high < 0.95


def test_what_is_written_in_the_lab_is_what_the_files_give(votes, repository: Path):
    written = json.loads((repository / "lab" / "votes" / "agreement.json").read_text())["agreement"]
    judged = ballots(votes)
    found = (pairwise_agreement(judged), contradictory(judged), alpha(judged))
    for name, estimate in zip(KEPT, found, strict=True):
        assert estimate is not None
        assert estimate.asdict() == pytest.approx(written[name])


def test_a_changed_file_is_refused(tmp_path, reader):
    for name in reader.DIGESTS:
        (tmp_path / name).write_text("dsg_prompt_split\n")
    with pytest.raises(ValueError, match="digest"):
        reader.read(tmp_path)
