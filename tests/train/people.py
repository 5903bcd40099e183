"""A small snapshot of several people, each with an opinion of their own, or with none."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from palate.data.comparison import compare
from palate.data.store import Store
from train.conftest import WORDS, picture

# By person: whether the bright picture of each of their pairs is preferred; None is a tie. A
# second answer to the same two pictures is a tuple's second entry.
Said = Mapping[str, Sequence[bool | tuple[bool, bool] | None]]
PEOPLE: Said = {
    "anna": [True] * 8,
    "ben": [False] * 7,
    "cleo": [True, True],
    "dora": [True],
    "emma": [None, None],
    "finn": [(True, False), (False, True)],
}


def people(folder: Path, said: Said = PEOPLE) -> Path:
    """A frozen snapshot; every pair has a prompt and two pictures of its own."""
    store, rows = Store(folder / "store"), []
    with store.writing():
        place = 0
        for user, answers in said.items():
            for answer in answers:
                images = [store.put(picture(2 * place, 120)), store.put(picture(2 * place + 1, 0))]
                prompt = f"a {WORDS[place % len(WORDS)]} thing {place}"
                for turn, one in enumerate(answer if isinstance(answer, tuple) else (answer,)):
                    agreement = 0.5 if one is None else float(one)
                    rows.append(
                        compare(prompt=prompt, images=images, agreement=agreement, judge=user,
                                source="human", origin=f"{place} {turn}")
                    )  # fmt: skip
                place += 1
        store.add(rows)
    return store.freeze(folder / "snapshot").path
