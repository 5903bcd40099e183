"""Figures: the same bytes for the same numbers, readable by colour-blind eyes, light or dark.

Curves are SVG from matplotlib, drawn in placeholder colours that are then replaced by the page's
own, so that one figure serves a light and a dark page. Pictures travel inside the page.

Read next: `page.py`, which puts them in place.
"""

import base64
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import wrap
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from palate.core.files import write_atomic
from palate.core.problems import require
from palate.core.stats import Estimate
from palate.evaluate.measurements import Exhibit, png
from palate.evaluate.result import Evaluation
from palate.evaluate.slide import Curve
from palate.report.words import plain

# Placeholders nobody would pick, each replaced by a variable of the page's style sheet.
INK, GRID, AFTER, BEFORE, ALARM = "#010203", "#040506", "#070809", "#0a0b0c", "#0d0e0f"
_VARIABLES = {
    INK: "var(--soft)",
    GRID: "var(--line)",
    AFTER: "var(--after)",
    BEFORE: "var(--before)",
    ALARM: "var(--alarm)",
}
Rows = Sequence[Mapping[str, Any]]


def series(rows: Rows, name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Steps and values of one column, without rows where it is missing or not finite."""
    found = [
        (float(row["step"]), float(row[name]))
        for row in rows
        if isinstance(row.get(name), int | float) and np.isfinite(row[name])
    ]
    table = np.array(found, dtype=np.float64).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def smooth(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """A centred running mean over a tenth of the values; shorter windows at the ends."""
    half = max(1, len(values) // 20)
    total = np.concatenate([[0.0], np.cumsum(values)])
    at = np.arange(len(values))
    low, high = np.maximum(at - half, 0), np.minimum(at + half + 1, len(values))
    return (total[high] - total[low]) / (high - low)


def loss_curve(history: Rows) -> str | None:
    """The training loss over steps: each step faint, the running mean strong."""
    steps, values = series(history, "loss")
    if len(steps) < 2:
        return None
    figure, axes = _panel()
    axes.plot(steps, values, color=AFTER, alpha=0.28, linewidth=0.8)
    axes.plot(steps, smooth(values), color=AFTER, linewidth=2.2)
    # The first steps of some losses are far away; the bulk is what one wants to see.
    low, high = np.percentile(values, [1, 99])
    room = 0.08 * max(high - low, 1e-9)
    axes.set_ylim(low - room, high + room)
    return _svg(figure, "loss")


def accuracy_curve(history: Rows, health: Rows) -> str | None:
    """How often the model already prefers what was chosen: in training, and on held-out pairs."""
    steps, values = series(history, "accuracy")
    checks = [
        (row["step"], 100 * spot["value"], 100 * spot["low"], 100 * spot["high"])
        for row in health
        for spot in (row.get("accuracy"),)
        if isinstance(spot, Mapping)
    ]
    if len(steps) < 2 and not checks:
        return None
    figure, axes = _panel()
    axes.axhline(50, color=INK, linewidth=1, linestyle=(0, (2, 3)))
    if len(steps) >= 2:
        axes.plot(steps, 100 * smooth(values), color=BEFORE, linewidth=1.8)
    if checks:
        at, value, low, high = np.array(checks, dtype=np.float64).T
        axes.errorbar(
            at,
            value,
            yerr=np.abs(np.array([value - low, high - value])),
            color=AFTER,
            marker="o",
            markersize=4.5,
            linewidth=2,
            elinewidth=1.2,
            capsize=0,
        )
    axes.set_ylim(min(40.0, axes.get_ylim()[0]), 100)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0f} %")
    return _svg(figure, "accuracy")


def margin_curve(health: Rows) -> str | None:
    """The margin on held-out pairs: its median, and where nine in ten pairs lie."""
    steps, middle = series(health, "margin_p50")
    if len(steps) < 2:
        return None
    figure, axes = _panel()
    axes.axhline(0, color=INK, linewidth=1, linestyle=(0, (2, 3)))
    low, high = series(health, "margin_p05")[1], series(health, "margin_p95")[1]
    if len(low) == len(high) == len(steps):
        axes.fill_between(steps, low, high, color=AFTER, alpha=0.18, linewidth=0)
    axes.plot(steps, middle, color=AFTER, linewidth=2.2, marker="o", markersize=4)
    axes.ticklabel_format(axis="y", scilimits=(-3, 4), useMathText=False)
    return _svg(figure, "margin")


def drift_curve(health: Rows, limits: Mapping[str, float]) -> str | None:
    """Winner and loser drift in percent of the reference's error, with the limits drawn in."""
    steps, winner = series(health, "winner_drift")
    if len(steps) < 2:
        return None
    loser_steps, loser = series(health, "loser_drift")
    figure, axes = _panel()
    axes.axhline(0, color=INK, linewidth=1)
    axes.plot(loser_steps, 100 * loser, color=BEFORE, linewidth=2, marker="s", markersize=4)
    axes.plot(steps, 100 * winner, color=AFTER, linewidth=2.2, marker="o", markersize=4.5)
    for word, limit in limits.items():
        axes.axhline(100 * limit, color=ALARM, linewidth=1.2, linestyle=(0, (5, 3)))
        axes.annotate(
            f"{word} {100 * limit:g} %",
            (1, 100 * limit),
            xycoords=("axes fraction", "data"),
            xytext=(0, 3),
            textcoords="offset points",
            ha="right",
            color=ALARM,
            fontsize=9,
        )
    low, high = axes.get_ylim()
    axes.set_ylim(min(low, -1), high + 0.08 * (high - low))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g} %")
    return _svg(figure, "drift")


def course_curve(curve: Curve) -> str:
    """What each of two users gains along the way from one to the other, with intervals."""
    figure, axes = _panel("share of the second user")
    axes.axhline(0, color=INK, linewidth=1, linestyle=(0, (2, 3)))
    marks = ((curve.first, BEFORE, "s"), (curve.second, AFTER, "o"))
    for estimates, colour, mark in marks:
        value, down, up = _ends(estimates)
        axes.fill_between(curve.shares, value - down, value + up, color=colour, alpha=0.18, lw=0)
        axes.plot(curve.shares, value, color=colour, linewidth=2.2, marker=mark, markersize=4.5)
    axes.set_xticks(curve.shares, [f"{100 * share:g} %" for share in curve.shares])
    return _svg(figure, "course")


def tradeoff_curve(curve: Curve) -> str:
    """One user's gain against the other's, each point a share of the second user."""
    figure, axes = _panel("first user's gain")
    first, left, right = _ends(curve.first)
    second, down, up = _ends(curve.second)
    ends = {"xerr": np.array([left, right]), "yerr": np.array([down, up])}
    axes.errorbar(
        first,
        second,
        **ends,
        color=AFTER,
        ecolor=INK,
        marker="o",
        markersize=4.5,
        linewidth=2.2,
        elinewidth=1.2,
        capsize=0,
    )
    for share, x, y in zip(curve.shares, first, second, strict=True):
        spot = {"xytext": (6, 5), "textcoords": "offset points"}
        axes.annotate(f"{100 * share:g} %", (x, y), color=INK, fontsize=9, **spot)
    axes.margins(0.12)
    axes.set_ylabel("second user's gain", color=INK, fontsize=9.5, loc="top")
    return _svg(figure, "tradeoff")


def _ends(estimates: Sequence[Estimate]) -> tuple[NDArray[np.float64], ...]:
    """Values, and how far the ends lie below and above; nothing where there is no interval."""
    rows = [
        (each.value, each.value - each.low, each.high - each.value)
        if each.bounded
        else (each.value, 0.0, 0.0)
        for each in estimates
    ]
    return tuple(np.array(rows, dtype=np.float64).T)


def data_uri(picture: NDArray[np.uint8], *, most: int = 512) -> str:
    """A picture as a data URI: small ones exactly, as PNG; larger ones shrunk, as WebP."""
    height, width = picture.shape[:2]
    if max(height, width) <= 128:
        return f"data:image/png;base64,{base64.b64encode(png(picture)).decode()}"
    image = Image.fromarray(picture)
    image.thumbnail((most, most))
    buffer = io.BytesIO()
    image.save(buffer, format="WEBP", quality=88, method=4)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def before_after(
    evaluation: Evaluation, path: Path, *, rows: int = 3, columns: int = 4, side: int = 128
) -> Path:
    """Write the first pictures of the plan, before and after, as one PNG for a README.

    Args:
        evaluation: Whose exhibits to show, in the order of the plan.
        path: Where to write.
        rows: Rows of prompts.
        columns: Prompts in a row.
        side: Side of each picture in pixels.

    Raises:
        SettingError: when the evaluation holds no pictures.
    """
    shown = [one for one in evaluation.exhibits if one.index == 0][: rows * columns]
    require(
        bool(shown),
        got="an evaluation without pictures",
        need="at least one prompt with its pictures",
        fix="Load the folder that palate evaluate wrote.",
    )
    gap, title, text = 24, 22, 40
    columns = min(columns, len(shown))
    cell = (2 * side + 4, title + side + text)
    lines = -(-len(shown) // columns)
    size = (gap + columns * (cell[0] + gap), gap + lines * (cell[1] + gap // 2))
    sheet = Image.new("RGB", size, "white")
    for at, exhibit in enumerate(shown):
        row, column = divmod(at, columns)
        corner = (gap + column * (cell[0] + gap), gap // 2 + row * (cell[1] + gap // 2))
        _place(sheet, exhibit, corner, side, title)
    buffer = io.BytesIO()
    sheet.save(buffer, format="PNG", optimize=True)
    write_atomic(path, buffer.getvalue())
    return path


def _place(
    sheet: Image.Image, exhibit: Exhibit, corner: tuple[int, int], side: int, title: int
) -> None:
    """Put one prompt's two pictures, their titles and the prompt on a sheet."""
    pen, (left, top) = ImageDraw.Draw(sheet), corner
    font = ImageFont.load_default(13)
    for place, (word, picture) in enumerate((("before", exhibit.before), ("after", exhibit.after))):
        at = left + place * (side + 4)
        pen.text((at, top), word, fill=("#8a5a00", "#005b8f")[place], font=font)
        # Small pictures stay sharp squares: smoothing would flatter them.
        way = Image.Resampling.NEAREST if len(picture) <= side else Image.Resampling.LANCZOS
        sheet.paste(Image.fromarray(picture).resize((side, side), way), (at, top + title))
    for line, words in enumerate(_fitted(plain(exhibit.prompt), 2 * side, font)):
        spot = (left, top + title + side + 5 + 17 * line)
        pen.text(spot, words, fill="#222222", font=font)


def _fitted(text: str, width: int, font: Any) -> list[str]:
    """A prompt in at most two lines of this width in pixels; what is cut off is marked."""
    letters = len(text)
    while letters > 8 and max(map(font.getlength, wrap(text, letters) or [""])) > width:
        letters -= 1
    return wrap(text, letters, max_lines=2, placeholder=" …") if text else []


def _panel(along: str = "step") -> tuple[Any, Any]:
    """One small empty panel, without the frame matplotlib would draw."""
    # Imported here: a report without curves, and everything else, starts without matplotlib.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6, 2.7), layout="constrained")
    axes = figure.add_subplot()
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(GRID)
    axes.tick_params(colors=INK, length=0, labelsize=9.5)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_xlabel(along, color=INK, fontsize=9.5, loc="right")
    return figure, axes


def _svg(figure: Any, name: str) -> str:
    """The figure as SVG to stand inside a page: no file header, no date, names of its own."""
    import matplotlib as mpl

    buffer = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(
            buffer,
            format="svg",
            transparent=True,
            metadata={"Date": None, "Creator": None, "Format": None, "Type": None},
        )
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r' xmlns(:\w+)?="[^"]*"', "", text)
    # Two figures on one page must not share names, or the second draws the first's marks.
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'href="#', f'href="#{name}-', text).replace("url(#", f"url(#{name}-")
    text = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1; font-family: inherit", text)
    text = re.sub(r'<svg[^>]*?viewBox="([^"]*)"[^>]*>', r'<svg viewBox="\1">', text, count=1)
    for placeholder, variable in _VARIABLES.items():
        text = text.replace(placeholder, variable)
    return text
