"""The three faces of what was found of a personal model agree, and claim no more than it shows."""

import html
import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from evaluate.planted_users import following, planted, planted_slide
from palate.evaluate.following import Following
from palate.evaluate.slide import curve
from palate.report import figures
from palate.report.personal import PersonalReport
from palate.report.words import interval
from report.test_report import PAYLOADS, Reader


@pytest.fixture(scope="module")
def report() -> PersonalReport:
    return PersonalReport(found=following(follows=1.5))


@pytest.fixture(scope="module")
def page(report: PersonalReport) -> str:
    return report.page()


def words(page: str) -> str:
    return " ".join(html.unescape(page).replace("\u00a0", " ").split())


def test_the_headline_is_about_the_unseen_and_what_strangers_pictures_lose(report):
    found = report.found.verdicts["unseen"]["own_minus_shuffled"]
    assert found.low > 0
    assert report.headline.startswith("Pictures drawn for unseen users win over the base model's")
    assert f"{100 * found.value:.1f} points" in report.headline
    assert report.headline.endswith("it follows people.")


def test_a_model_that_only_became_better_is_not_said_to_follow_people():
    better = PersonalReport(found=following(follows=0.0))
    assert better.headline.endswith("that it follows people is not seen.")


def test_what_holds_on_these_prompts_only_is_not_said_of_others():
    """One lucky prompt of eight: other users would agree, other prompts need not."""
    found = planted(16, 8, seed=1)
    personal = np.where(np.eye(16, dtype=bool)[:, :, None], 0.0, -1.0) * np.ones(8)
    personal[:, :, 1:] = 0.0
    crossed = replace(found, personal=personal, base=np.zeros((16, 8)), pooled=None)
    told = Following(groups={"seen": (crossed,)})
    assert told.verdicts["seen"]["own_minus_shuffled"].low > 0
    assert told.two_way["seen"]["own_minus_shuffled"].low < 0
    said = PersonalReport(found=told)
    assert "it follows people on these prompts; that it does on others is not seen" in said.headline
    assert 'class="seen primary"' not in said.page()


@pytest.mark.parametrize("users", [2, 3])
def test_two_or_three_users_are_never_said_to_be_followed(users):
    """Where nobody is followed, all pictures of so few often agree by chance."""
    for seed in range(20):
        groups = {"seen": (planted(users, 6, better=1.0, seed=seed),)}
        said = PersonalReport(found=Following(groups=groups))
        assert said.headline.endswith("that it follows people is not seen.")
        assert any("fewer than five users" in limit for limit in said.limits)


def test_what_each_training_gave_is_told_beside_what_all_users_did(report, page):
    one = report.found.verdicts["unseen"]["own_minus_shuffled_by_training"]
    assert one.n == 2
    for face in (report.text(), words(page)):
        assert "own minus others, by training" in face
        assert "Own minus others of each training, in points: " in face
    line = next(line for line in report.text().splitlines() if "by training, points" in line)
    assert line.endswith("  of 2 trainings")
    assert any("share its luck" in limit for limit in report.limits)


def test_a_terminal_sees_the_wider_ends_too(report):
    wider = report.found.two_way["unseen"]["own_over_base"]
    narrow = report.found.verdicts["unseen"]["own_over_base"]
    lines = report.text().split("unseen: ", 1)[1].splitlines()
    line = next(line for line in lines if "their own pictures, over the base" in line)
    assert interval(narrow) in line
    assert line.endswith(interval(wider))
    assert interval(wider) != interval(narrow)


def test_the_json_has_the_course_of_the_way_between_two(report):
    told = report.json()["curve"]
    assert told["rises"]["course"] == curve(report.found.slides).rises.course
    assert len(told["first"]) == len(told["shares"]) == 3


def test_pictures_that_gains_leave_out_are_counted():
    broken = planted(6, 5)
    broken.personal[:, 2, 1] = np.nan
    text = PersonalReport(found=Following(groups={"seen": (broken,)})).text()
    assert "gains leave out all pictures of 1 noise" in " ".join(text.split())


def test_a_single_user_proves_nothing_and_is_told_so():
    alone = PersonalReport(found=Following(groups={"seen": (planted(1, 8, better=1.0),)}))
    assert "with a single user, nothing tells following from being better" in alone.headline
    assert "points more" not in alone.page()


def test_the_faces_say_the_same(report, page):
    assert " ".join(report.text().split()).startswith(report.headline)
    assert report.headline in words(page)
    told = report.json()
    assert told["headline"] == report.headline
    json.dumps(told, allow_nan=False)
    for limit in report.limits:
        assert limit in words(page)
        assert limit in " ".join(report.text().split())


def test_every_number_in_the_text_has_an_interval_and_every_line_fits(report):
    lines = report.text().splitlines()
    assert max(map(len, lines)) <= 100
    compared = [line for line in lines if line.startswith(("  their own", "  own minus"))]
    assert len(compared) >= 2 * 4
    assert all("–" in line or " to " in line for line in compared)


def test_the_page_fetches_nothing_and_shows_both_figures_and_the_strip(page):
    reader = Reader(page)
    assert reader.open == []
    assert "http" not in page.replace("http-equiv", "")
    assert sum(tag == "svg" for tag, _ in reader.elements) == 2
    pictures = [attributes for tag, attributes in reader.elements if tag == "img"]
    assert len(pictures) == 3 * 2
    assert all(each["src"].startswith("data:image/png") and each["alt"] for each in pictures)
    names = [attributes["id"] for _, attributes in reader.elements if "id" in attributes]
    assert len(names) == len(set(names))


def test_strangers_words_stay_words():
    """As names of groups, users and facts, and as prompts, all at once."""

    def told(texts: list[str]) -> PersonalReport:
        slide = planted_slide([0.0, 1.0], len(texts))
        pictures = np.zeros((2, len(texts), 8, 8, 3), np.uint8)
        slide = replace(slide, names=(texts[0], texts[1]), prompts=tuple(texts), pictures=pictures)
        groups = {text: (planted(2, 2),) for text in texts[::7]}
        facts = dict.fromkeys(texts, "x") | {"all": " ".join(texts)}
        return PersonalReport(found=Following(groups=groups, slides=(slide,), facts=facts))

    hostile, calm = told(list(PAYLOADS)), told([f"calm {at}" for at in range(len(PAYLOADS))])
    seen, expected = Reader(hostile.page()), Reader(calm.page())
    assert [tag for tag, _ in seen.elements] == [tag for tag, _ in expected.elements]
    assert [sorted(names) for _, names in seen.elements] == [
        sorted(names) for _, names in expected.elements
    ]
    assert not set(hostile.page() + hostile.text()) & {"\x00", "\x1b", "\u202e"}


def test_what_was_not_asked_is_left_out_and_not_an_error():
    nothing = PersonalReport(found=Following(groups={}))
    assert nothing.headline.startswith("No pictures were drawn for anybody")
    for heading in ("Between two tastes", "Who is who", "held-out pairs", "Own pictures and"):
        assert heading not in nothing.page()
    assert "One training" not in nothing.text()


def test_a_pooled_model_that_is_missing_is_named_as_a_limit():
    without = replace(planted(4, 4), pooled=None)
    limits = PersonalReport(found=Following(groups={"seen": (without,)})).limits
    assert any("no pooled model" in each for each in limits)
    assert any("One training" in each for each in limits)


@pytest.mark.parametrize("draw", [figures.course_curve, figures.tradeoff_curve])
def test_figures_of_a_slide_are_whole_xml_in_the_pages_own_colours(draw):
    svg = draw(curve(planted_slide([0.0, 1.0, 2.0])))
    ElementTree.fromstring(svg.replace("xlink:href", "href"))
    assert "var(--after)" in svg
    assert "50 %" in svg.replace("\u00a0", " ")
    assert svg == draw(curve(planted_slide([0.0, 1.0, 2.0])))


def test_a_report_is_read_from_a_folder_and_written_as_three_files(report, page, tmp_path: Path):
    report.found.save(tmp_path / "found")
    written = PersonalReport.read(tmp_path / "found").save(tmp_path / "out")
    assert written.read_text(encoding="utf-8") == page
    assert sorted(path.name for path in written.parent.iterdir()) == [
        "report.html",
        "report.json",
        "report.txt",
    ]
