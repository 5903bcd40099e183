"""Pairs of people whose tastes are known, through the gate that everybody's pairs go through."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from palate.core.files import write_json
from palate.core.problems import DataError, SettingError
from palate.data.pairs import PreferencePairs
from palate.data.sources import import_comparisons
from palate.data.store import Store
from palate.recipes.people import PAIRS, PEOPLE, make_people, name_of, read_tastes
from palate.world import diverse, parts, weigh

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation:DeprecationWarning",
)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Path, dict]:
    """Three people, two pairs each, who never err."""
    out = tmp_path_factory.mktemp("people")
    facts = make_people(
        out, judges=3, pairs_each=2, seed=5, strength=30.0, flip_rate=0.0, indifference=0.0
    )
    return out, facts


def test_each_person_judges_prompts_of_their_own(made):
    rows = pq.read_table(made[0] / PAIRS).to_pylist()
    assert [row["user_id"] for row in rows] == [0, 1, 2, 0, 1, 2]
    assert len({row["caption"] for row in rows}) == 6
    assert made[1]["rows"] == 6
    assert made[1]["judges"] == 3


def test_tastes_are_known_by_the_names_that_an_import_gives(made, tmp_path: Path):
    store = Store(tmp_path / "store")
    import_comparisons(store, "pickapic", made[0] / PAIRS, labels="world")
    store.freeze(tmp_path / "pairs")
    pairs = PreferencePairs.open(tmp_path / "pairs")
    tastes = read_tastes(made[0] / PEOPLE)
    assert {pair.judge for pair in pairs} == set(tastes)
    assert tastes == {name_of(judge): judge.taste for judge in diverse(3, 5, strength=30.0)}


def test_who_never_errs_prefers_what_their_own_taste_prefers(made, tmp_path: Path):
    """Gaps are some 30 logits, and the pictures are the JPEGs that were judged before packing."""
    store = Store(tmp_path / "store")
    import_comparisons(store, "pickapic", made[0] / PAIRS, labels="world")
    store.freeze(tmp_path / "pairs")
    pairs = PreferencePairs.open(tmp_path / "pairs")
    tastes = read_tastes(made[0] / PEOPLE)
    right = []
    for pair in pairs:
        two = [pairs.image(digest) for digest in (pair.chosen, pair.rejected)]
        worth = [weigh(parts(one, pair.prompt), tastes[pair.judge]) for one in two]
        right.append(worth[0] > worth[1])
    assert np.mean(right) > 0.8
    assert made[1]["labels_as_their_own_taste"] == 1.0


def test_more_pairs_each_only_add_to_fewer(made, tmp_path: Path):
    make_people(
        tmp_path, judges=3, pairs_each=3, seed=5, strength=30.0, flip_rate=0.0, indifference=0.0
    )
    few, more = (pq.read_table(folder / PAIRS).to_pylist() for folder in (made[0], tmp_path))
    assert more[: len(few)] == few


def test_a_file_without_tastes_and_nobody_to_ask_are_refused(tmp_path: Path):
    write_json(tmp_path / PEOPLE, {"seed": 0})
    with pytest.raises(DataError, match=r"tells no tastes"):
        read_tastes(tmp_path / PEOPLE)
    with pytest.raises(SettingError, match=r"Got pairs_each=0"):
        make_people(tmp_path, judges=2, pairs_each=0)
