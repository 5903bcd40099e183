"""T001 and T002: copies are found by their looks; different pictures are not taken for copies."""

import io

import numpy as np
import pytest
from PIL import Image

from audit.judged import asked, picture, row, snapshot
from palate.audit.audited import Audited
from palate.audit.checks.t001_same_picture import SamePictureTwice
from palate.audit.checks.t002_near_duplicate_pairs import NearDuplicatePairs
from palate.audit.looks import Looks


def as_jpeg(pixels: np.ndarray, quality: int = 70) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file).convert("RGB"))


def brighter(pixels: np.ndarray) -> np.ndarray:
    return np.clip(pixels.astype(np.float64) * 1.03, 0, 255).astype(np.uint8)


def half(pixels: np.ndarray) -> np.ndarray:
    side = len(pixels) // 2
    return np.asarray(Image.fromarray(pixels).resize((side, side), Image.Resampling.BOX))


COPIES = {100: as_jpeg(picture(0, 64)), 102: brighter(picture(2, 64)), 104: half(picture(4, 64))}
ORIGINALS = {number: picture(number, 64) for number in range(40)}


def test_planted_copies_in_a_pair_are_found_and_others_are_not(tmp_path):
    rows = [row(n, n + 100, prompt=f"p{n}") for n in (0, 2, 4)]
    rows += [row(n, n + 1, prompt=f"p{n}") for n in range(6, 40, 2)]
    found = asked(SamePictureTwice(), snapshot(tmp_path, rows, {**ORIGINALS, **COPIES}))
    assert found.outcome == "issue"
    assert found.figures["look_the_same"] == 3
    assert found.figures["pairs"] == 20
    assert len(found.rows) == 3
    data = Audited(tmp_path / "snapshot")
    assert {data.by_id[each.ids[0]].prompt for each in found.rows} == {"p0", "p2", "p4"}
    assert {each.doubt for each in found.rows} == {0.5}


def test_planted_a_picture_under_two_prompts_is_found_with_both_rows(tmp_path):
    rows = [row(0, 1), row(0, 2, prompt="a hen"), row(3, 4), row(3, 5, prompt="A  Fox")]
    found = asked(SamePictureTwice(), snapshot(tmp_path, rows))
    assert found.outcome == "issue"
    (only,) = found.rows
    assert len(only.ids) == 2
    assert "a hen" in only.note
    assert "a fox" in only.note
    assert found.figures["pictures_of_several_prompts"] == 1


def test_a_reused_picture_concerns_only_the_pairs_it_is_in(tmp_path):
    ranking = {**row(0, 1, None), "images": [0, 1, 2], "ranks": [1, 2, 3]}
    found = asked(SamePictureTwice(), snapshot(tmp_path, [ranking, row(0, 3, prompt="a hen")]))
    (only,) = found.rows
    (name,) = only.pictures
    assert len(only.ids) == 2
    assert len(only.pairs) == 3
    assert all(name in pair for pair in only.pairs)


class Counted(tuple):
    """Rows that know how often somebody went through all of them."""

    times = 0

    def __iter__(self):
        Counted.times += 1
        return super().__iter__()


def test_rows_are_not_gone_through_again_for_every_shared_picture(tmp_path):
    rows = [row(n, n + 1, prompt=words) for n in range(0, 40, 2) for words in ("a hen", "a fox")]
    data = Audited(snapshot(tmp_path, rows, ORIGINALS))
    data.rows = Counted(data.rows)
    Counted.times = 0
    found = SamePictureTwice().ask(data)
    assert found.figures["pictures_of_several_prompts"] == 40
    assert Counted.times < 10


def test_different_pictures_pass(tmp_path):
    rows = [row(n, n + 1, prompt=f"p{n}") for n in range(0, 40, 2)]
    path = snapshot(tmp_path, rows, ORIGINALS)
    for check in (SamePictureTwice(), NearDuplicatePairs()):
        found = asked(check, path)
        assert (found.outcome, found.rows) == ("passed", ())


def test_one_light_and_other_colours_are_two_pictures(tmp_path):
    """Light weighs red 0.299 and green 0.587: 200 more red is as light as 102 more green."""
    red, green = (np.full((32, 32, 3), 20, np.uint8) for _ in range(2))
    red[8:24, 8:24, 0] = 220
    green[8:24, 8:24, 1] = 122
    found = asked(SamePictureTwice(), snapshot(tmp_path, [row(0, 1)], {0: red, 1: green}))
    assert found.outcome == "passed"


def test_planted_a_pair_of_copies_repeats_another_and_the_first_is_kept(tmp_path):
    rows = [row(n, n + 1, prompt=f"p{n}") for n in range(0, 20, 2)]
    rows.append(row(100, 101, prompt="p0", judge="ben"))
    copies = {100: as_jpeg(picture(0, 64)), 101: as_jpeg(picture(1, 64))}
    found = asked(NearDuplicatePairs(), snapshot(tmp_path, rows, {**ORIGINALS, **copies}))
    assert found.outcome == "issue"
    (only,) = found.rows
    assert len(only.ids) == 1
    assert len(set(only.pictures)) == 4
    assert "of the same prompt" in only.note
    assert only.doubt is None


def test_planted_copies_judged_the_other_way_say_so(tmp_path):
    copies = {100: as_jpeg(picture(0, 64)), 101: as_jpeg(picture(1, 64))}
    rows = [row(0, 1, prompt="p0"), row(101, 100, prompt="p1"), row(2, 3)]
    found = asked(NearDuplicatePairs(), snapshot(tmp_path, rows, {**ORIGINALS, **copies}))
    (only,) = found.rows
    assert "judged the other way" in only.note
    assert only.doubt == 0.5
    assert only.pictures[0] != only.pictures[1]


def test_a_pair_that_shares_one_picture_repeats_nothing(tmp_path):
    found = asked(NearDuplicatePairs(), snapshot(tmp_path, [row(0, 1), row(0, 2), row(1, 2)]))
    assert found.outcome == "passed"


def test_a_pair_judged_again_repeats_nothing(tmp_path):
    path = snapshot(tmp_path, [row(0, 1), row(1, 0, judge="ben"), row(2, 3)])
    assert asked(NearDuplicatePairs(), path).outcome == "passed"


def test_one_pair_alone_cannot_be_repeated(tmp_path):
    assert asked(NearDuplicatePairs(), snapshot(tmp_path, [row(0, 1)])).outcome == "not applicable"


def test_copies_among_many_are_the_ones_found_by_comparing_all_with_all(tmp_path):
    """Parity: directions and tree miss nothing that comparing everything finds."""
    random = np.random.default_rng(0)
    light = random.normal(0, 0.1, (300, 256))
    # Copies at all distances around the limit of 0.006.
    light[150:] = (
        light[:150] + random.normal(0, 1, (150, 256)) * np.linspace(0.003, 0.009, 150)[:, None]
    )
    looks = Looks(
        places={f"{number:03d}": number for number in range(300)},
        light=light.astype(np.float32),
        colour=np.zeros((300, 48), np.float32),
        traits=np.zeros((300, 7)),
    )
    leaders = looks.leaders()
    found = {name for name, leader in leaders.items() if name != leader}
    plain = {f"{150 + at:03d}" for at in range(150) if looks.same(f"{at:03d}", f"{150 + at:03d}")}
    assert found == plain
    assert 40 < len(plain) < 110


def test_thousands_of_empty_pictures_have_one_leader():
    many = 5000
    looks = Looks(
        places={f"{number:05d}": number for number in range(many)},
        light=np.zeros((many, 256), np.float32),
        colour=np.zeros((many, 48), np.float32),
        traits=np.zeros((many, 7)),
    )
    assert set(looks.leaders().values()) == {"00000"}


def test_a_damaged_picture_is_an_error_that_names_the_file(tmp_path):
    path = snapshot(tmp_path, [row(0, 1)])
    pack = path / "pictures-00000.pack"
    pack.write_bytes(bytes(pack.stat().st_size))
    with pytest.raises(Exception, match="pictures-00000"):
        asked(SamePictureTwice(), path)
