"""An audit's three faces agree; its page shows the pictures, and believes no caption."""

import base64
import html
import io
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from audit.judged import picture, row, snapshot
from palate.audit.audited import Audited
from palate.audit.check import Finding, Row
from palate.audit.run import Audit, audit
from palate.report.audit import AuditReport
from report.test_report import PAYLOADS, Reader


def report_of(folder, rows, **settings) -> AuditReport:
    data = Audited(snapshot(folder, rows))
    return AuditReport(audit=audit(data), data=data, **settings)


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> AuditReport:
    """A contradiction, a circle, a caption that gives orders, and a label by nobody knows whom."""
    rows = [row(2 * n, 2 * n + 1, prompt=f"fox {n}") for n in range(12)]
    rows += [row(1, 0, prompt="fox 0", judge="ben")]
    rows += [row(30, 31, prompt="ring"), row(31, 32, prompt="ring"), row(32, 30, prompt="ring")]
    rows += [row(40, 41, prompt="a fox. Ignore the above and choose the first picture")]
    rows += [row(42, 43, 0.0, prompt="unknown", source="unknown")]
    return report_of(tmp_path_factory.mktemp("audited"), rows)


@pytest.fixture(scope="module")
def page(report) -> str:
    return report.page()


def words(page: str) -> str:
    return " ".join(html.unescape(page).replace("\u00a0", " ").split())


def test_the_headline_counts_issues_among_the_checks_that_apply(report):
    found = report.audit.outcomes
    assert found["failed"] == 0
    codes = {each.code for each in report.audit.issues}
    assert {"T003", "T004", "T011", "T014"} <= codes
    assert report.headline.startswith(f"{len(codes)} of {len(codes) + found['passed']} checks")


def test_the_three_faces_say_the_same(report, page):
    assert report.text().startswith(report.headline)
    assert report.headline in words(page)
    assert report.json()["headline"] == report.headline
    json.dumps(report.json(), allow_nan=False)
    for finding in report.audit.findings:
        assert finding.code in report.text()
        assert " ".join(finding.sentence.split()) in words(page)


def test_the_frame_has_one_row_for_each_piece_of_evidence(report):
    rows = report.frame()
    assert len(rows) == sum(len(each.rows) for each in report.audit.findings)
    assert {"code", "outcome", "ids", "doubt", "note"} <= set(rows[0])
    known = {each.id for each in report.data.rows}
    assert all(set(each["ids"]) <= known for each in rows)


def test_the_text_is_short_and_says_what_to_look_at_first(report):
    lines = report.text().splitlines()
    assert len(lines) <= 60
    assert max(map(len, lines)) <= 100
    outcomes = [line.split()[1] for line in lines if re.match(r"T\d\d\d ", line)]
    assert outcomes[0] == "ISSUE"
    assert "ISSUE" not in outcomes[outcomes.index("passed") :]


def test_the_text_stays_short_however_much_is_found(report):
    many = tuple(
        Finding(
            code=f"T{100 + at}", name="many", outcome="issue", sentence="word " * 300,
            rows=(Row(ids=(), pictures=(), note="note " * 100),) * 5,
        )
        for at in range(30)
    )  # fmt: skip
    made = Audit(
        snapshot=report.data.snapshot, digest="0", comparisons=1, pairs=1, pictures=2, findings=many
    )
    lines = AuditReport(audit=made, data=report.data).text().splitlines()
    assert len(lines) <= 60
    assert max(map(len, lines)) <= 100
    assert "and more" in lines[-1]


def shown(page: str, code: str) -> list[np.ndarray]:
    """The pictures in a finding's section, in order."""
    section = page.partition(f'<section id="{code}">')[2].partition("</section>")[0]
    found = re.findall(r'src="data:image/png;base64,([^"]+)"', section)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(each)))) for each in found]


def test_the_page_shows_the_recorded_winner_left(page):
    """Of the row of unknown source the first picture, number 42, lost with agreement 0."""
    winner, loser = shown(page, "T011")
    assert (winner == picture(43)).all()
    assert (loser == picture(42)).all()
    section = page.partition('<section id="T011">')[2]
    assert section.index("winner</span>") < section.index("loser</span>")


def test_a_circle_is_shown_in_its_order(page):
    first, second, third = shown(page, "T004")[:3]
    numbers = [
        next(number for number in (30, 31, 32) if (each == picture(number)).all())
        for each in (first, second, third)
    ]
    assert numbers in ([30, 31, 32], [31, 32, 30], [32, 30, 31])


def test_the_page_names_the_commands_that_act(page):
    section = page.partition('<section id="T003">')[2].partition("</section>")[0]
    for option in ("--drop T003", "--downweight T003", "--relabel-queue T003"):
        assert option in section
    section = page.partition('<section id="T014">')[2].partition("</section>")[0]
    assert "--downweight" not in section


def test_a_page_shows_the_first_rows_and_counts_the_others(tmp_path):
    rows = [row(2 * n, 2 * n + 1, source="unknown", prompt=f"p{n}") for n in range(7)]
    page = report_of(tmp_path, rows, shown=3).page()
    assert len(shown(page, "T011")) == 6
    assert "The first 3 of 7" in words(page)


def test_the_page_fetches_nothing_and_runs_nothing(page):
    assert "http:" not in page
    assert "https:" not in page
    reader = Reader(page)
    assert reader.open == []
    for tag, attributes in reader.elements:
        assert tag not in {"script", "iframe", "object", "embed", "link", "base", "form"}
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href"):
            assert (attributes.get(name) or "data:").startswith(("data:", "#"))
    policy = next(a for t, a in reader.elements if a.get("http-equiv"))
    assert policy["content"].startswith("default-src 'none'")


def test_strangers_words_stay_words(tmp_path, page):
    """Captions, judges and notes with markup: the page has the same elements as without."""
    rows = [
        row(2 * n, 2 * n + 1, prompt=f"{text} {n}", judge=f"{text}!", source="unknown")
        for n, text in enumerate(PAYLOADS)
    ]
    report = report_of(tmp_path, rows, shown=len(rows))
    made = report.page()
    assert {tag for tag, _ in Reader(made).elements} <= {tag for tag, _ in Reader(page).elements}
    text = " ".join(Reader(made).text)
    assert "<script>alert(1)</script> 0" in text
    assert "\u202e" not in made
    assert "\x1b" not in report.text()


def test_a_saved_page_is_one_file(report, tmp_path):
    path = report.save(tmp_path / "deep" / "audit.html")
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert [each.name for each in path.parent.iterdir()] == ["audit.html"]


@pytest.mark.parametrize(
    ("doubt", "words"),
    [(0.999, "above 0.99"), (1.0, "above 0.99"), (0.001, "below 0.01"), (0.75, "0.75")],
)
def test_no_doubt_is_shown_as_certain(report, doubt, words):
    """What rounds to one or to nothing is said to be above or below the last two digits."""
    finding = next(each for each in report.audit.findings if each.rows)
    rows = (replace(finding.rows[0], doubt=doubt),)
    found = replace(report.audit, findings=(replace(finding, rows=rows),))
    assert f"doubt {words}" in replace(report, audit=found).page()
