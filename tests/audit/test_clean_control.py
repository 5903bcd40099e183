"""Twelve clean small worlds: judges with ordinary noise, no flips, no minority, one vote a pair.

Nothing may be found wrongly. Judges without any noise are no clean control for T009: where taste
is made of plain properties and nothing else, plain properties do tell the winner.
"""

import pytest

from palate.audit.audited import Audited, Evidence
from palate.audit.run import audit
from palate.core.streams import Streams
from palate.data.comparison import compare
from palate.data.store import Store
from palate.world import Preference, Scene, Style, parts, population, prompts, render, weigh

PAIRS = 150
SAID = {Preference.A: 1.0, Preference.B: 0.0, Preference.TIE: 0.5}


def clean(folder, seed: int):
    """Two mediocre pictures of each caption, judged by majority tastes, sides drawn at random."""
    streams, store = Streams(seed), Store(folder / "store")
    people = population(12, seed, minority=0, flip_rate=0, temperature=1.0)
    rows = []
    with store.writing():
        for caption in prompts("train", PAIRS, seed):
            scene, drawn = Scene.parse(caption), []
            for side in (0, 1):
                style = Style.mediocre(streams("style", caption, side).numpy())
                drawn.append(render(scene, style, streams("accidents", caption, side)))
            images = [store.put(picture) for picture in drawn]
            measured = [parts(picture, caption) for picture in drawn]
            judge = people[streams("who", caption).integer(0, len(people))]
            gap = weigh(measured[0], judge.taste) - weigh(measured[1], judge.taste)
            first = streams("side", caption).integer(0, 2)
            rows.append(
                compare(
                    prompt=caption,
                    images=images,
                    agreement=SAID[judge.prefer_by(gap, streams("answer", caption))],
                    judge=judge.id,
                    source="world",
                    shown=(first, 1 - first),
                )
            )
        store.add(rows)
    return store.freeze(folder / "snapshot").path


# T013 asks which labels most people would not give, and of honest but noisy judges some are: of
# the first four worlds a share of 0.13 to 0.19. It says so, and is right; see its own tests.
NOISE = ("T013",)
# One pair of these 1,800 does look the same: a pale triangle, moved by one pixel.
LOOKS_THE_SAME = {11: ["T001"]}


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
def test_a_clean_world_raises_no_issue(tmp_path, seed):
    held_out = {"held-out": prompts("held-out", 200, seed)}
    data = Audited(clean(tmp_path, seed), Evidence(evaluation_prompts=held_out))
    found = audit(data, silenced=NOISE)
    assert [each.code for each in found.issues] == LOOKS_THE_SAME.get(seed, [])
    assert found.outcomes["failed"] == 0
    assert found.outcomes["passed"] >= 6
