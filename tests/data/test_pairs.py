from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from palate.core.problems import DataError, SettingError
from palate.data.comparison import Comparison, ImageRef, compare
from palate.data.pairs import Pair, PreferencePairs
from palate.data.store import Store


def picture(number: int) -> np.ndarray:
    return np.full((8, 8, 3), number, np.uint8)


def opened(folder: Path, rows: list[dict], **settings: object) -> PreferencePairs:
    """Rows whose `images` are numbers that name plain pictures."""
    store = Store(folder / "store")

    def made(facts: dict) -> Comparison:
        images: list[ImageRef] = [store.put(picture(number)) for number in facts.pop("images")]
        return compare(images=images, **facts)

    store.add([made({"prompt": "p", **facts}) for facts in rows])
    store.freeze(folder / "frozen")
    return PreferencePairs.open(folder / "frozen", **settings)


def sides(pairs: PreferencePairs) -> set[tuple[int, int]]:
    return {
        (int(pairs.image(pair.chosen)[0, 0, 0]), int(pairs.image(pair.rejected)[0, 0, 0]))
        for pair in pairs
    }


def test_the_preferred_picture_is_chosen_whichever_side_it_stood_on(tmp_path: Path) -> None:
    pairs = opened(
        tmp_path,
        [
            {"images": [1, 2], "agreement": 1.0},
            {"images": [3, 4], "agreement": 0.0},
            {"images": [5, 6], "agreement": 0.3},
        ],
    )
    assert sides(pairs) == {(1, 2), (4, 3), (6, 5)}
    assert sorted(pair.agreement for pair in pairs) == [0.7, 1.0, 1.0]
    assert sorted(pair.chosen_first for pair in pairs) == [False, False, True]


def test_ranks_become_every_strictly_ordered_pair(tmp_path: Path) -> None:
    """Pictures 1 and 3 share the first place, 2 is second, 4 is third: five strict pairs."""
    rows = [{"images": [1, 2, 3, 4], "ranks": [1, 2, 1, 3]}]
    pairs = opened(tmp_path, rows)
    assert sides(pairs) == {(1, 2), (3, 2), (1, 4), (3, 4), (2, 4)}
    assert len({pair.id for pair in pairs}) == 5
    assert pairs.summary()["ties_left_out"] == 1


def test_a_tie_is_no_pair_unless_asked_for_and_never_a_win(tmp_path: Path) -> None:
    rows = [{"images": [1, 2], "agreement": 0.5}, {"images": [3, 4], "agreement": 1.0}]
    pairs = opened(tmp_path, rows)
    assert len(pairs) == 1
    assert pairs.summary()["ties_left_out"] == 1
    half = PreferencePairs.open(tmp_path / "frozen", ties="half")
    assert sorted(pair.agreement for pair in half) == [0.5, 1.0]
    assert half.summary()["ties_kept"] == 1
    with pytest.raises(SettingError, match="Did you mean half"):
        PreferencePairs.open(tmp_path / "frozen", ties="halve")


def test_an_unlabelled_record_makes_no_pair(tmp_path: Path) -> None:
    pairs = opened(tmp_path, [{"images": [1, 2]}, {"images": [1, 3], "agreement": 1.0}])
    assert len(pairs) == 1


def test_the_order_shown_decides_which_picture_stood_first(tmp_path: Path) -> None:
    pairs = opened(tmp_path, [{"images": [1, 2], "agreement": 1.0, "shown": (1, 0)}])
    assert not pairs[0].chosen_first


@given(
    labels=st.lists(
        st.tuples(st.integers(0, 9), st.integers(0, 4), st.sampled_from("abc")), min_size=1
    ),
    share=st.floats(0, 0.99),
    seed=st.integers(0, 5),
    by=st.sampled_from(["prompt", "judge"]),
)
def test_no_prompt_or_judge_is_on_both_sides_of_a_split(
    labels: list, share: float, seed: int, by: str
) -> None:
    pairs = PreferencePairs(Path(), None, [pair(n, *label) for n, label in enumerate(labels)], [])
    train, held = pairs.split(by=by, held_out=share, seed=seed)
    assert sorted(p.id for p in [*train, *held]) == sorted(p.id for p in pairs)
    kept, away = ({getattr(p, by).casefold() for p in side} for side in (train, held))
    assert not kept & away
    assert kept, "something is left to train on"
    if share > 0 and len(kept | away) > 1:
        assert away


def pair(number: int, prompt: int, judge: int, spelling: str = "a") -> Pair:
    spelled = {"a": "Prompt {}", "b": "prompt {}", "c": "PROMPT {}"}[spelling].format(prompt)
    return Pair(
        id=str(number),
        prompt=spelled,
        chosen=f"c{number}",
        rejected=f"r{number}",
        agreement=1.0,
        judge=f"j{judge}",
        source="human",
    )


def test_a_split_depends_on_the_seed_and_not_on_the_order() -> None:
    made = [pair(n, n, 0) for n in range(50)]
    forward = PreferencePairs(Path(), None, made, [])
    backward = PreferencePairs(Path(), None, made[::-1], [])
    first = set(forward.split(by="prompt", held_out=0.2, seed=1)[1].prompts)
    assert len(first) == 10
    assert first == set(backward.split(by="prompt", held_out=0.2, seed=1)[1].prompts)
    assert first != set(forward.split(by="prompt", held_out=0.2, seed=2)[1].prompts)


def test_a_split_that_makes_no_sense_is_refused() -> None:
    pairs = PreferencePairs(Path(), None, [pair(0, 0, 0)], [])
    with pytest.raises(SettingError, match="a share from 0"):
        pairs.split(by="prompt", held_out=1.0, seed=0)
    with pytest.raises(SettingError, match="Did you mean prompt"):
        pairs.split(by="prompts", held_out=0.1, seed=0)


def test_a_view_has_a_digest_of_its_own(tmp_path: Path) -> None:
    rows = [{"images": [n, n + 1], "agreement": 1.0, "prompt": f"p{n}"} for n in range(1, 9)]
    pairs = opened(tmp_path, rows)
    again = PreferencePairs.open(tmp_path / "frozen")
    assert pairs.digest == again.digest
    some = pairs.filter(lambda p: p.prompt != "p3")
    assert len(some) == 7
    assert some.digest != pairs.digest
    assert some.digest == pairs.filter(lambda p: p.prompt != "p3").digest
    two = pairs.subset([4, 1])
    assert [two[0], two[1]] == [pairs[4], pairs[1]]
    assert two.prompts == (pairs[4].prompt, pairs[1].prompt)


def test_the_summary_counts_what_a_reader_should_doubt(tmp_path: Path) -> None:
    """Two judges contradict each other on (1, 2); one pair is judged the same way twice."""
    rows = [
        {"images": [1, 2], "agreement": 1.0, "judge": "x", "source": "human"},
        {"images": [1, 2], "agreement": 0.0, "judge": "y", "source": "human"},
        {"images": [3, 4], "agreement": 1.0, "judge": "x", "source": "vlm"},
        {"images": [3, 4], "agreement": 0.9, "judge": "y", "source": "vlm"},
        {"images": [5, 6], "agreement": 0.5, "judge": "x", "source": "human"},
        {"images": [7, 8], "agreement": 1.0, "judge": "x", "source": "human", "prompt": "q"},
    ]
    pairs = opened(tmp_path, rows)
    summary = pairs.summary()
    assert summary["pairs"] == 5
    assert summary["prompts"] == 2
    assert summary["pictures"] == 6
    assert summary["contradictions"] == 2 == len(pairs.contradictions())
    assert summary["judged_again"] == 2
    assert summary["soft_labels"] == 1
    assert summary["ties_left_out"] == 1
    assert summary["sources"] == {"human": 3, "vlm": 2}
    assert summary["busiest_judge"] == {"judge": "x", "share": 0.6}
    assert summary["chosen_first"] == {"share": 0.8, "pairs": 5}


def test_a_folder_that_is_no_snapshot_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Check the path"):
        PreferencePairs.open(tmp_path)
    Store(tmp_path / "store")
    with pytest.raises(DataError, match=r"snapshot\.json"):
        PreferencePairs.open(tmp_path / "store")
