"""One result, three faces that agree; a page that fetches nothing and believes nobody."""

import html
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from palate.core.problems import SettingError
from palate.report import figures
from palate.report.claims import headline, limits
from palate.report.report import Report
from report.synthetic import HEALTH, HISTORY, RECORD, exploratory, make_evaluation

PAYLOADS = (
    "<script>alert(1)</script>",
    "</title><script>alert(1)</script>",
    "</style><script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'><svg onload=alert(1)>",
    '" onmouseover="alert(1)',
    "' onfocus='alert(1)' autofocus='",
    "<img src=https://evil.example/x.png>",
    "<link rel=stylesheet href=//evil.example/x.css>",
    "<iframe src=javascript:alert(1)>",
    "<a href=javascript:alert(1)>x</a>",
    "<base href=https://evil.example/>",
    "<meta http-equiv=refresh content=0;url=//evil.example>",
    "{{ 7 * 7 }}{% raw %}",
    "{{ self.__init__.__globals__ }}",
    "<!-- <b>",
    "--><script>alert(1)</script>",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "$\\frac{1}{0}$ <math><mi//xlink:href='data:x,<script>alert(1)</script>'>",
    "\u202e<body onload=alert(1)>\x00\x1b[2J",
)


class Reader(HTMLParser):
    """Collects what a browser would see."""

    VOID = frozenset({"meta", "img", "br", "link", "input", "base"})

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def full_report():
    return Report(evaluation=make_evaluation(), history=HISTORY, health=HEALTH, record=RECORD)


@pytest.fixture(scope="module")
def page() -> str:
    """The whole page; its four curves take most of a second."""
    return full_report().page()


def test_the_headline_says_how_many_of_what_and_how_sure():
    """15 of 20 won: 75 %."""
    text = full_report().headline
    assert re.fullmatch(
        r"After 1,914 pairs, the aligned model's picture is preferred on 75 % of "
        r"20 held-out prompts \(95 % interval \d\d–\d\d %\), by the true reward\.",
        text,
    )


@pytest.mark.parametrize(
    ("wins", "words"),
    [(20, "aligned model's picture is preferred"), (10, "no difference is seen"), (2, "got worse")],
)
def test_the_headline_claims_no_more_than_the_interval_allows(wins, words):
    assert words.lower() in headline(make_evaluation(wins=wins), None).lower()


def test_every_rate_in_the_text_has_its_interval_and_n():
    text = full_report().text()
    lines = text.splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 100
    row = next(line for line in lines if line.startswith("* true reward"))
    assert re.search(r"75 %\s+\d\d–\d\d %\s+0 %\s+20 prompts", row)
    for name in ("brightness", "saturation", "edge energy", "clipped pixels"):
        row = next(line for line in lines if name in line)
        assert re.search(r"\(.* to .*, n = 20 prompts\)", row)
    assert re.search(r"variety .* \(.* to .* %; 2 prompts × 8\)", " ".join(lines))
    assert "n = 64 pairs" in text


def test_the_text_stays_short_with_many_scorers_and_says_that_there_are_more():
    found = make_evaluation()
    many = tuple(replace(found.primary, scorer=f"scorer {at}") for at in range(60))
    report = Report(evaluation=replace(found, opinions=many), record=RECORD)
    assert len(report.text().splitlines()) <= 40
    assert "and 50 more scorers" in report.text()


def test_the_three_faces_say_the_same(page):
    report = full_report()
    page = " ".join(html.unescape(page).replace("\u00a0", " ").split())
    assert report.headline in page
    assert report.json()["headline"] == report.headline
    assert " ".join(report.text().split()).startswith(report.headline)
    assert report.json()["evaluation"]["opinions"][0]["win_rate"]["value"] == 0.75
    assert np.mean([row["outcome"] for row in report.frame()[:20]]) == 0.75
    json.dumps(report.json(), allow_nan=False)
    for limit in report.limits:
        assert limit in page


def test_the_page_fetches_nothing_and_runs_nothing(page):
    assert "http:" not in page
    assert "https:" not in page
    for tag, attributes in Reader(page).elements:
        assert tag not in {"script", "iframe", "object", "embed", "link", "base", "form"}
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href", "xlink:href"):
            assert (attributes.get(name) or "#").startswith(("data:image/", "#"))
    assert "@import" not in page
    assert re.findall(r"url\((?!#)", page) == []
    assert "default-src 'none'" in page


def test_every_picture_has_words_and_every_name_is_used_once(page):
    reader = Reader(page)
    pictures = [attributes for tag, attributes in reader.elements if tag == "img"]
    assert len(pictures) == 8
    assert all(attributes.get("alt") for attributes in pictures)
    names = [attributes["id"] for _, attributes in reader.elements if "id" in attributes]
    assert len(names) == len(set(names))
    assert reader.open == []


@pytest.mark.parametrize("payload", PAYLOADS)
def test_strangers_words_stay_words(payload):
    """As prompt, scorer, model name, setting, command and health sentence, all at once."""
    prompts = (payload, *(f"prompt {at}" for at in range(3)))
    evaluation = make_evaluation(
        prompts=prompts, wins=3, scorer=payload, model=payload, with_variety=False
    )
    # Without curves: they hold numbers only, and drawing them forty times takes a minute.
    check = {"step": 40, "winner_drift": -0.01, "pairs": 64}
    record = RECORD | {
        "run": {"model": payload, payload: payload},
        "command": payload,
        "beta_convention": payload,
    }
    hostile = Report(
        evaluation=evaluation,
        health=(check | {"sentence": payload, "status": payload},),
        record=record,
    )
    calm = Report(
        evaluation=make_evaluation(prompts=("calm", *prompts[1:]), wins=3, with_variety=False),
        health=(check | {"sentence": "calm", "status": "calm"},),
        record=RECORD | {"run": {"model": "calm", "calm": "calm"}, "command": "calm"},
    )
    seen, expected = Reader(hostile.page()), Reader(calm.page())
    assert [tag for tag, _ in seen.elements] == [tag for tag, _ in expected.elements]
    assert [sorted(names) for _, names in seen.elements] == [
        sorted(names) for _, names in expected.elements
    ]
    assert not set(hostile.page() + hostile.text()) & {"\x00", "\x1b", "\u202e"}


def test_the_same_result_gives_the_same_page_to_the_byte(page):
    assert full_report().page() == page


def test_what_is_missing_is_said_and_not_an_error():
    report = Report(evaluation=make_evaluation(with_variety=False, exhibits=0))
    page = report.page().replace("\u00a0", " ")
    for words in (
        "No training record was given",
        "No curves",
        "No health checks were recorded",
        "came without its pictures",
        "Variety was not measured",
        "settings were not given",
    ):
        assert words in page
    assert report.headline.startswith("The aligned model's picture")
    assert report.winner_drift is None


def test_an_exploratory_result_is_called_that_on_every_face():
    report = Report(evaluation=exploratory(make_evaluation()))
    assert "Exploratory: the plan was not registered before drawing." in report.text()
    assert 'class="badge exploratory"' in report.page()
    assert report.json()["evaluation"]["standing"] == "exploratory"


def test_the_scorer_that_made_the_labels_is_named_as_a_limit():
    assert "labels came from the true reward itself" in " ".join(
        limits(make_evaluation(), trained=True)
    )


def test_the_limits_of_the_winners_drift_are_drawn_in():
    svg = figures.drift_curve(HEALTH, {"warn": 0.02, "stop": 0.05})
    assert svg is not None
    assert "warn 2 %" in svg
    assert "stop 5 %" in svg


@pytest.mark.parametrize(
    "svg",
    [
        figures.loss_curve(HISTORY),
        figures.accuracy_curve(HISTORY, HEALTH),
        figures.margin_curve(HEALTH),
        figures.drift_curve(HEALTH, {}),
    ],
)
def test_a_figure_is_whole_xml_in_the_pages_own_colours(svg):
    ElementTree.fromstring(svg.replace("xlink:href", "href"))
    assert "var(--after)" in svg
    assert not re.search(r"#0[0-9a-f]0[0-9a-f]0[0-9a-f]", svg)


def test_rows_that_are_not_numbers_leave_no_curve():
    rows = [{"step": 1, "loss": None}, {"step": 2, "loss": float("nan")}, {"step": 3}]
    assert figures.loss_curve(rows) is None
    assert figures.drift_curve([], {}) is None


def test_the_running_mean_by_hand():
    """A window of three, shorter at the ends."""
    assert figures.smooth(np.array([0.0, 3.0, 6.0, 0.0])).tolist() == [1.5, 3.0, 3.0, 3.0]


def test_large_pictures_are_shrunk_and_small_ones_are_exact():
    small = np.zeros((64, 64, 3), dtype=np.uint8)
    assert figures.data_uri(small).startswith("data:image/png;base64,")
    large = Image.effect_noise((1024, 1024), 50).convert("RGB")
    uri = figures.data_uri(np.asarray(large))
    assert uri.startswith("data:image/webp;base64,")
    assert len(uri) < 400_000


def test_the_readme_picture_has_the_planned_size_and_the_pictures_in_order(tmp_path):
    evaluation = make_evaluation(exhibits=4)
    path = figures.before_after(evaluation, tmp_path / "sheet.png", rows=2, columns=2, side=64)
    with Image.open(path) as sheet:
        assert sheet.size == (24 + 2 * (132 + 24), 24 + 2 * (126 + 12))
        corner = sheet.getpixel((24, 12 + 22))
    assert corner == tuple(evaluation.exhibits[0].before[0, 0])
    with pytest.raises(SettingError, match="without pictures"):
        figures.before_after(make_evaluation(exhibits=0), tmp_path / "none.png")


def test_a_report_is_read_from_folders_and_written_as_three_files(tmp_path, page):
    make_evaluation().save(tmp_path / "evaluation")
    run = tmp_path / "run"
    run.mkdir()
    lines = [json.dumps(row) for row in HISTORY]
    # The last line is torn, as a crash leaves it.
    (run / "log.jsonl").write_text("\n".join([*lines, '{"step": 41, "lo']))
    (run / "health.jsonl").write_text("\n".join(json.dumps(row) for row in HEALTH) + "\n")
    (run / "record.json").write_text(json.dumps(RECORD))
    report = Report.read(tmp_path / "evaluation", run)
    assert len(report.history) == 40
    assert report.winner_drift == pytest.approx(-0.012)
    written = report.save(tmp_path / "out")
    assert written.read_text(encoding="utf-8") == page
    assert sorted(path.name for path in written.parent.iterdir()) == [
        "report.html",
        "report.json",
        "report.txt",
    ]
