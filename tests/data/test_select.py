"""A choice of pairs is clear, well asked for and varied, and on record; by lot it is not."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.core.problems import DataError, SettingError, StateError
from palate.data.comparison import compare
from palate.data.machine import Machine
from palate.data.part import label_part
from palate.data.select import SELECTED, select, select_by_lot
from palate.data.snapshot import read_imports, read_rows, verify
from palate.data.spread import FLOOR, Texts, by_words, entropy, pick
from palate.data.store import Store
from palate.data.synthetic import drawn_at_random
from palate.data.taste import Quality, Taste, Weights, length

WORDS = ("red", "blue", "green", "small", "large", "round", "old", "new", "tall", "flat")


def picture(number: int) -> np.ndarray:
    return np.full((8, 8, 3), number, np.uint8)


def brightness(images, _prompts) -> np.ndarray:
    return np.array([float(image.mean()) for image in images])


BRIGHT = Machine(judge="bright", score=brightness)


def snapshot(folder: Path, gaps: list[int], prompts: list[str], agreement: float = 1.0) -> Path:
    """One pair per gap in brightness."""
    store, made = Store(folder / "store"), []
    for place, (gap, prompt) in enumerate(zip(gaps, prompts, strict=True)):
        images = [store.put(picture(number)) for number in (place, place + gap)]
        made.append(compare(prompt=prompt, images=images, agreement=agreement, source="human"))
    store.add(made)
    return store.freeze(folder / "snapshot").path


def test_three_items_by_hand():
    """Texts a, a, b at distance √2. Worth 1, 0.9, 0: alone the two a's; with diversity a and b.

    The second a is no distance from the first: ln 0.05 = -3, and 0.9 - 3 < 0.
    """
    vectors, place = np.eye(2), np.array([0, 0, 1])
    worth = np.array([1.0, 0.9, 0.0])
    assert pick(worth, place, vectors, count=2, diversity=0.0) == [0, 1]
    assert pick(worth, place, vectors, count=2, diversity=1.0) == [0, 2]
    assert pick(worth, place, vectors, count=2, diversity=0.9 / 3.0) == [0, 1]
    assert entropy(place[:1], vectors) == 0.0
    assert entropy(np.array([0, 1]), vectors) == pytest.approx(0.0)
    assert entropy(np.array([0, 0]), vectors) == pytest.approx(math.log(FLOOR))


def test_a_text_may_come_back_twice_before_it_costs():
    """Three other texts first, three copies at 3 for nothing, a fourth at 2 - 3 after one at 0."""
    vectors = np.eye(5)
    worth = np.array([9.0, 3.0, 3.0, 3.0, 2.0, 8.0, 7.0, 0.0])
    place = np.array([1, 0, 0, 0, 0, 2, 3, 4])
    assert pick(worth, place, vectors, count=8, diversity=1.0) == [0, 5, 6, 1, 2, 3, 7, 4]
    assert entropy(np.array([0, 0, 0, 1, 2, 3]), vectors) == pytest.approx(0.0)
    assert entropy(np.array([0, 0, 0, 0, 1, 2, 3]), vectors) == pytest.approx(
        4 / 7 * math.log(FLOOR)
    )


def test_texts_that_share_no_word_are_unrelated_and_sparse_equals_dense():
    vectors = by_words(["a red cat", "a red dog", "nine boats", ""])
    dense = vectors.toarray()
    assert np.allclose(np.linalg.norm(dense, axis=1), 1)
    assert (dense @ dense.T)[0, 2] == 0
    assert 0 < (dense @ dense.T)[0, 1] < 1
    place = np.array([0, 1, 2, 3, 0])
    assert entropy(place, vectors) == pytest.approx(entropy(place, dense))
    worth = np.array([0.1, 0.4, 0.2, 0.0, 0.3])
    assert pick(worth, place, vectors, count=5, diversity=1.0) == pick(
        worth, place, dense, count=5, diversity=1.0
    )


def test_the_length_of_a_prompt_by_hand():
    """One word of five is 0.2; sixty are half-way from forty to eighty."""
    prompts = ["cat", "a b c d e", " ".join("x" * 40), " ".join("x" * 60), " ".join("x" * 90), ""]
    assert length(prompts).tolist() == pytest.approx([0.2, 1.0, 1.0, 0.5, 0.0, 0.0])


def test_the_widest_margins_are_kept_whichever_picture_the_labels_prefer(tmp_path):
    prompts = [f"{word} thing" for word in WORDS]
    whole = snapshot(tmp_path, [1, 9, 2, 8, 3, 7, 4, 6, 5, 10], prompts, agreement=0.0)
    taste = Taste(machine=BRIGHT, weights=Weights(quality=0, diversity=0))
    made = select(whole, tmp_path / "out", keep=3, taste=taste)
    assert (made.pairs, made.of, made.unknown) == (3, 10, 0)
    assert made.chosen.margin == pytest.approx((10 + 9 + 8) / 3)
    rows = read_rows(tmp_path / "out")
    assert {row.prompt for row in rows} == {"blue thing", "small thing", "flat thing"}
    assert {row.id for row in rows} < {row.id for row in read_rows(whole)}
    verify(tmp_path / "out")


def test_diversity_takes_other_prompts_where_lot_repeats_them(tmp_path):
    """Twenty pairs, twelve of them of one prompt; eight are taken."""
    prompts = ["one and the same"] * 12 + [f"{word} {word}ish" for word in WORDS[:8]]
    whole = snapshot(tmp_path, list(range(1, 21)), prompts)
    taste = Taste(machine=BRIGHT, weights=Weights(margin=0.1, quality=0, diversity=1))
    made = select(whole, tmp_path / "out", keep=0.4, taste=taste)
    assert made.pairs == 8
    assert made.chosen.entropy > made.lot.entropy
    assert made.lot.prompts < made.chosen.prompts


def test_the_record_says_by_what_and_that_the_weights_are_ours(tmp_path):
    whole = snapshot(tmp_path, list(range(1, 11)), [f"{word} it" for word in WORDS])
    select(whole, tmp_path / "out", keep=5, taste=Taste(machine=BRIGHT))
    note = read_imports(tmp_path / "out")[-1][SELECTED]
    assert (note["margin"], note["quality"], note["texts"]) == (
        "bright", "length in words", "words (TF-IDF)",
    )  # fmt: skip
    assert note["weights"]["source"] == "ours; the paper's were not found"
    assert (note["pairs"], note["of"], note["reads_labels"]) == (5, 10, False)
    assert set(note["chosen"]) == {"margin", "quality", "entropy", "prompts"}


def test_a_labelled_part_stays_random_where_no_label_was_looked_at_and_not_where_one_was(tmp_path):
    whole = snapshot(tmp_path, list(range(1, 11)), [f"{word} it" for word in WORDS])
    label_part(whole, tmp_path / "part", share=0.5, seed=0, machine=BRIGHT)
    select(tmp_path / "part", tmp_path / "scored", keep=6, taste=Taste(machine=BRIGHT))
    select(tmp_path / "part", tmp_path / "labels", keep=6, taste=Taste())
    select_by_lot(tmp_path / "part", tmp_path / "lot", keep=6, seed=0)
    assert drawn_at_random(tmp_path / "scored")
    assert drawn_at_random(tmp_path / "lot")
    assert not drawn_at_random(tmp_path / "labels")


def test_a_pair_that_cannot_be_scored_is_not_taken(tmp_path):
    whole = snapshot(tmp_path, [1, 2, 3], ["a b", "c d", "e f"])
    blind = Machine(
        judge="m",
        score=lambda images, prompts: np.where(
            [text == "e f" for text in prompts], math.nan, brightness(images, prompts)
        ),
    )
    made = select(whole, tmp_path / "out", keep=2, taste=Taste(machine=blind))
    assert made.unknown == 1
    assert {row.prompt for row in read_rows(tmp_path / "out")} == {"a b", "c d"}
    with pytest.raises(DataError, match="2 of which can be taken"):
        select(whole, tmp_path / "no", keep=3, taste=Taste(machine=blind))
    asked = Quality(name="asked", of=lambda prompts: np.full(len(prompts), math.nan))
    with pytest.raises(DataError, match="0 of which can be taken"):
        select(whole, tmp_path / "no", keep=1, taste=Taste(machine=BRIGHT, quality=asked))


def test_by_lot_the_seed_decides_and_labels_do_not(tmp_path):
    prompts = [f"{word} it" for word in WORDS]
    one = snapshot(tmp_path / "1", list(range(1, 11)), prompts)
    other = snapshot(tmp_path / "0", list(range(1, 11)), prompts, agreement=0.0)

    def taken(whole: Path, name: str, seed: int) -> set[str]:
        select_by_lot(whole, tmp_path / name, keep=0.5, seed=seed)
        return {row.prompt for row in read_rows(tmp_path / name)}

    assert taken(one, "a", 0) == taken(other, "b", 0) != taken(one, "c", 1)


def test_what_makes_no_sense_is_refused(tmp_path):
    whole = snapshot(tmp_path, [1, 2], ["a b", "c d"])
    for keep in (0, -1, 1.5, math.nan):
        with pytest.raises(SettingError, match="a whole number of pairs, or a share"):
            select_by_lot(whole, tmp_path / "out", keep=keep, seed=0)
    with pytest.raises(DataError, match="at least 3"):
        select_by_lot(whole, tmp_path / "out", keep=3, seed=0)
    for wrong in ({"margin": -1}, {"margin": math.inf}, dict.fromkeys(("margin", "quality"), 0)):
        with pytest.raises(SettingError, match="at least 0, not all 0"):
            Weights(**{"diversity": 0, **wrong})
    with pytest.raises(StateError):
        select_by_lot(whole, whole, keep=1, seed=0)


@settings(max_examples=30, deadline=None)
@given(
    worth=st.lists(st.floats(-3, 3), min_size=5, max_size=12),
    count=st.integers(1, 5),
    diversity=st.floats(0, 5),
    seed=st.integers(0, 5),
)
def test_the_greedy_order_is_a_prefix_of_the_longer_one_and_takes_nothing_twice(
    worth, count, diversity, seed
):
    random = np.random.default_rng(seed)
    place = random.integers(0, 4, len(worth))
    vectors = random.normal(size=(4, 6))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    order = pick(np.array(worth), place, vectors, count=5, diversity=diversity)
    assert len(set(order)) == 5
    assert pick(np.array(worth), place, vectors, count=count, diversity=diversity) == order[:count]
    assert order[0] == int(np.argmax(worth))


class Sliced:
    """Vectors that count how often many of them are taken out at once."""

    def __init__(self, vectors: np.ndarray) -> None:
        self.vectors, self.shape, self.wide = vectors, vectors.shape, 0

    def __getitem__(self, which) -> np.ndarray:
        self.wide += len(which) > 1
        return self.vectors[which]

    def __matmul__(self, other: np.ndarray) -> np.ndarray:
        return self.vectors @ other


def test_what_a_choice_is_like_is_computed_once_and_from_one_copy_of_its_texts(tmp_path):
    """One copy for the pairs taken, one for those by lot, whatever their number."""
    whole = snapshot(tmp_path, list(range(1, 11)), [f"{word} it" for word in WORDS])
    vectors = Sliced(by_words([f"{word} it" for word in WORDS]).toarray())
    texts = Texts(name="counted", embed=lambda prompts: vectors)
    select(whole, tmp_path / "out", keep=5, taste=Taste(machine=BRIGHT, texts=texts))
    assert vectors.wide == 2


def test_the_nearest_taken_are_those_that_sorting_finds():
    """Planted: the greedy order written out with all distances and a full sort."""
    random = np.random.default_rng(3)
    vectors = random.normal(size=(30, 4))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    worth, place = random.normal(size=60), random.integers(0, 30, 60)
    apart = np.maximum(np.linalg.norm(vectors[:, None] - vectors, axis=2) / math.sqrt(2), FLOOR)
    taken: list[int] = []
    for _ in range(20):
        near = np.sort(apart[place][:, place[taken]], axis=1)
        spread = np.log(near[:, min(len(taken), 3) - 1]) if taken else np.zeros(60)
        left = np.where(np.isin(np.arange(60), taken), -np.inf, worth + spread)
        taken.append(int(np.argmax(left)))
    assert pick(worth, place, vectors, count=20, diversity=1.0) == taken
