"""T009: a planted shortcut is found and named; people who look at the picture pass."""

import numpy as np
import pytest
from PIL import Image

from audit.judged import asked, picture, row, snapshot
from palate.audit.audited import Audited
from palate.audit.checks.t009_shortcuts import Shortcuts

PAIRS = 80


def pairs(path, won_by_first, **own):
    """One pair per prompt; `won_by_first` says of each number whether its first picture wins."""
    rows = [
        row(2 * n, 2 * n + 1, float(won_by_first(n)), prompt=f"prompt {n}") for n in range(PAIRS)
    ]
    return snapshot(path, rows, **own)


def lightness(pixels: np.ndarray) -> float:
    return float(np.asarray(Image.fromarray(pixels).convert("L")).mean())


def tossed(n: int) -> bool:
    return bool(np.random.default_rng(1000 + n).integers(2))


@pytest.fixture(scope="module")
def brighter(tmp_path_factory):
    """Winners are the brighter pictures, whatever they show."""
    light = [lightness(picture(number, 24)) for number in range(2 * PAIRS)]
    own = {number: picture(number, 24) for number in range(2 * PAIRS)}
    folder = tmp_path_factory.mktemp("brighter")
    return pairs(folder, lambda n: light[2 * n] > light[2 * n + 1], pictures=own)


def test_planted_brighter_winners_are_found_and_brightness_is_named(brighter):
    found = asked(Shortcuts(), brighter)
    assert found.outcome == "issue"
    assert found.figures["strongest"] == "brightness"
    assert found.figures["winner_has_more"]["brightness"]["value"] == pytest.approx(1.0, abs=0.03)
    assert found.figures["accuracy"]["low"] > 0.8
    assert "brightness tells most" in found.sentence


def test_its_evidence_are_the_plainest_pairs_the_winner_first(brighter):
    found, data = asked(Shortcuts(), brighter), Audited(brighter)
    assert 0 < len(found.rows) <= PAIRS
    for each in found.rows:
        one, other = (lightness(data.image(name)) for name in each.pictures)
        assert one > other
        assert len(each.ids) == 1


def test_planted_the_first_place_is_found_where_it_decides(tmp_path):
    found = asked(Shortcuts(), pairs(tmp_path, lambda _: True))
    assert found.outcome == "issue"
    assert found.figures["strongest"] == "place"
    assert found.figures["winner_has_more"]["place"]["value"] == 1.0


def test_tossed_coins_pass_near_one_half(tmp_path):
    found = asked(Shortcuts(), pairs(tmp_path, tossed))
    assert (found.outcome, found.rows) == ("passed", ())
    # 80 tosses scatter by 0.056, and folds share what they learned from: within three of these.
    assert found.figures["accuracy"]["value"] == pytest.approx(0.5, abs=0.17)


def test_a_property_that_never_differs_says_nothing(tmp_path):
    found = asked(Shortcuts(), pairs(tmp_path, tossed))
    assert found.figures["winner_has_more"]["resolution"]["value"] == 0.5


def test_a_few_pairs_are_too_few_for_a_probe(tmp_path):
    rows = [row(2 * n, 2 * n + 1, prompt=f"p{n}") for n in range(12)]
    found = asked(Shortcuts(), snapshot(tmp_path, rows))
    assert found.outcome == "not applicable"
    assert "12 preferences" in found.sentence


def test_a_probe_is_never_said_to_be_certain(tmp_path):
    """Every winner is white and every loser black: the odds round to one."""
    own = {
        2 * n + side: (picture(n) // 16 + (0 if side else 230)).astype(np.uint8)
        for n in range(120)
        for side in (0, 1)
    }
    rows = [row(2 * n, 2 * n + 1, prompt=f"prompt {n}") for n in range(120)]
    found = asked(Shortcuts(), snapshot(tmp_path, rows, own))
    assert found.outcome == "issue"
    assert any("above 0.99" in each.note for each in found.rows)
    assert not any("1.00" in each.note for each in found.rows)
