"""The demo end to end, and the pairs it starts from."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from palate.core.streams import Streams
from palate.data.sources import import_comparisons
from palate.data.store import Store
from palate.recipes.demo import PAIRS, demo
from palate.recipes.pairs import make_pairs
from palate.world import PERFECT, Scene, Style, prompts, render
from palate.world.truth import RewardPart, TrueReward

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation:DeprecationWarning",
)


def test_the_shipped_pairs_enter_as_anyones_do(tmp_path: Path):
    """At most 2,000 rows and 8 MB; every row is kept or counted, and ties stay ties."""
    assert PAIRS.stat().st_size <= 8e6
    table = pq.read_table(PAIRS, columns=["label_0", "caption"])
    assert len(table) <= 2000
    ties = table["label_0"].to_pylist().count(0.5)
    report = import_comparisons(Store(tmp_path / "store"), "pickapic", PAIRS, limit=60)
    assert report.read == 60 == report.kept + sum(report.dropped.values())
    assert 0 < ties < len(table) / 10


def test_no_shipped_pair_is_about_a_test_prompt():
    """The demo's claim is about prompts nobody trained on."""
    trained = set(pq.read_table(PAIRS, columns=["caption"])["caption"].to_pylist())
    assert not trained & set(prompts("held-out", 4000, 2026))


def test_pairs_are_a_function_of_their_seed(tmp_path: Path):
    """Twice the same seed gives the same bytes; labels are 1, 0 or ½."""
    facts = [make_pairs(tmp_path / f"{name}.parquet", count=3, seed=7) for name in ("a", "b")]
    assert facts[0] == facts[1]
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    rows = pq.read_table(tmp_path / "a.parquet").to_pylist()
    assert {row["label_0"] for row in rows} <= {0.0, 0.5, 1.0}
    assert all(row["label_0"] + row["label_1"] == 1 for row in rows)


def test_the_true_reward_and_its_parts_prefer_the_vivid_picture():
    """The same scene, vivid and faded."""
    caption = prompts("train", 1, 0)[0]
    scene, chance = Scene.parse(caption), Streams(0)("picture")
    pictures = [render(scene, style, chance) for style in (PERFECT, Style(vividness=0.3))]
    for scorer in (TrueReward(), RewardPart("vividness")):
        vivid, faded = scorer.score(pictures, [caption] * 2)
        assert vivid > faded
    assert np.ptp(RewardPart("count").score(pictures, [caption] * 2)) == 0


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_demo_tells_its_story_and_leaves_its_numbers(tmp_path: Path):
    """The quick form: every step of the story, on few prompts; then once more on what is there."""
    said: list[str] = []
    facts = demo(tmp_path / "demo", say=said.append, quick=True)
    assert [line[:3] for line in said if line[1:3] == "/4"] == ["1/4", "2/4", "3/4", "4/4"]
    assert json.loads((tmp_path / "demo/result.json").read_text()) == facts
    assert {"win_rate", "low", "high", "prompts", "pairs", "seconds", "winner_drift"} <= set(facts)
    assert "<img" in (tmp_path / "demo/report.html").read_text()
    again = demo(tmp_path / "demo", say=said.append, quick=True)
    assert again["win_rate"] == facts["win_rate"]
