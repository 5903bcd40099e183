"""The five files a newcomer reads, in order."""

import ast
from pathlib import Path

import pytest

import palate

SOURCE = Path(palate.__file__).parent
TOUR = [
    "recipes/demo.py",
    "train/loop.py",
    "train/denoise.py",
    "core/contrast.py",
    "objectives/dpo.py",
]


@pytest.mark.parametrize("name", TOUR)
def test_a_stop_of_the_tour_exists_and_explains_itself(name):
    tree = ast.parse((SOURCE / name).read_text())
    assert len((ast.get_docstring(tree) or "").split()) >= 15


def test_the_tour_is_short_enough_to_read_in_one_sitting():
    lengths = {name: len((SOURCE / name).read_text().splitlines()) for name in TOUR}
    assert sum(lengths.values()) < 900, lengths


def test_the_readme_shows_the_way(repository: Path):
    text = (repository / "README.md").read_text()
    places = [text.find(f"[`{name}`]") for name in TOUR]
    assert all(place >= 0 for place in places), "the README's tour misses a stop"
    assert places == sorted(places)
