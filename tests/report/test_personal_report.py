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
    compared = [line for line in lines if line.startswith("  their own") or "minus" in line]
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
