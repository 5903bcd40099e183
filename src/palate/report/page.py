"""The page: one HTML file that fetches nothing, runs nothing, and escapes everything.

Prompts and names come from strangers. Jinja2 escapes them, direction and control characters are
taken out, and the page forbids itself scripts and the network by its own policy.
"""

import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from palate.core.stats import Estimate
from palate.evaluate.drift import Drift
from palate.evaluate.measurements import Exhibit
from palate.evaluate.result import Evaluation
from palate.evaluate.winrate import Opinion
from palate.report import claims, figures
from palate.report.words import (
    change,
    count,
    difference,
    drifted,
    duration,
    flat,
    interval,
    number,
    percent,
    plain,
)

Rows = Sequence[Mapping[str, Any]]
SHOWN = 12


def render(
    evaluation: Evaluation,
    *,
    history: Rows,
    health: Rows,
    record: Mapping[str, Any],
    headline: str,
    limits: Sequence[str],
    winner_drift: float | None,
) -> str:
    """The whole page as text."""
    rate = evaluation.primary.win_rate
    template = environment().get_template("page.html")
    text = template.render(
        headline=headline,
        outcome=claims.outcome(rate),
        primary=claims.named(evaluation.primary.scorer),
        rate=bar(rate),
        standing=evaluation.standing,
        standing_sentence=claims.standing(evaluation),
        tiles=_tiles(evaluation, health, record, winner_drift),
        cards=[_card(evaluation, one) for one in _first(evaluation)],
        total=len(evaluation.plan.prompts) or len(set(evaluation.measurements.prompts)),
        opinions=[_opinion(opinion) for opinion in evaluation.opinions],
        broken=claims.broken(evaluation),
        variety=claims.variety(evaluation),
        strips=_strips(evaluation),
        drifts=[_drift(drift) for drift in (*evaluation.variety, *evaluation.style)],
        training=claims.training(history, record),
        curves=_curves(history, health),
        health=claims.health_sentence(health, record),
        health_status=str(health[-1].get("status", "unknown")) if health else "unknown",
        drift_curve=safe(figures.drift_curve(health, _limits(record))),
        run=_settings(record),
        facts=_facts(evaluation, record),
        commands=_commands(evaluation, record),
        limits=limits,
    )
    # A percent sign or a factor never starts a line of its own.
    return re.sub(r"(?<=\d) (?=%)|(?<=×) (?=\d)| (?=× \d)", "\u00a0", text)


@cache
def environment() -> Environment:
    """Where templates are found, and how they are filled: everything is escaped."""
    made = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["plain"] = plain
    return made


def safe(svg: str | None) -> Markup | None:
    """One of our own figures, which a page shows as it is."""
    # Only our own figures are marked safe: they hold numbers and our words, never a stranger's.
    return None if svg is None else Markup(svg)


def bar(rate: Estimate) -> dict[str, str]:
    """A win rate as text and as places in percent along a track from 0 to 100 %."""
    return {
        "value": percent(rate.value),
        "interval": interval(rate),
        "n": f"{rate.n:,}",
        "at": f"{100 * rate.value:.2f}",
        "low": f"{100 * rate.low:.2f}",
        "width": f"{100 * (rate.high - rate.low):.2f}",
    }


def _tiles(
    evaluation: Evaluation,
    health: Rows,
    record: Mapping[str, Any],
    winner_drift: float | None,
) -> list[dict[str, str]]:
    """The three or four figures to see next, each with what it rests on."""
    tiles: list[dict[str, str]] = []
    pairs, steps = claims.trained_pairs(record), record.get("steps")
    if pairs:
        took = record.get("seconds")
        words = [count(int(steps), "step")] if isinstance(steps, int) else []
        words += [duration(took)] if isinstance(took, int | float) else []
        tiles.append(
            {"value": f"{pairs:,}", "name": "pairs learned from", "basis": ", ".join(words)}
        )
    if evaluation.variety and evaluation.variety[0].ratio is not None:
        first = evaluation.variety[0]
        value, ends = change(evaluation.variety[0].ratio)
        basis = f"{ends} · {claims.sampled(first)}"
        tiles.append({"value": value, "name": "variety within a prompt", "basis": basis})
    if winner_drift is not None:
        held = health[-1].get("pairs", "unknown")
        basis = f"{held} fixed held-out pairs · below 0 is good"
        tiles.append({"value": drifted(winner_drift), "name": "winner drift", "basis": basis})
    old, new = evaluation.broken
    shown = count(len(evaluation.measurements.prompts), "picture")
    tiles.append(
        {"value": f"{old} → {new}", "name": "broken pictures", "basis": f"of {shown} each"}
    )
    return tiles


def _first(evaluation: Evaluation) -> list[Exhibit]:
    return [one for one in evaluation.exhibits if one.index == 0][:SHOWN]


def _card(evaluation: Evaluation, exhibit: Exhibit) -> dict[str, str]:
    """One prompt's pictures, with what the deciding scorer says of them."""
    found, scorer = evaluation.measurements, evaluation.primary.scorer
    card = {
        "prompt": plain(exhibit.prompt),
        "before": figures.data_uri(exhibit.before),
        "after": figures.data_uri(exhibit.after),
        "sharp": "sharp" if len(exhibit.before) <= 128 else "smooth",
    }
    rows = zip(found.prompts, found.indices, strict=True)
    place = next((at for at, row in enumerate(rows) if row == (exhibit.prompt, exhibit.index)), -1)
    if place < 0:
        return card | {"scores": "not scored", "won": "tie"}
    before, after = (scores[place] for scores in found.scores[scorer])
    won = {1.0: "won", 0.0: "lost"}.get(float(found.outcomes(scorer)[place]), "tie")
    return card | {"scores": f"{_score(before)} → {_score(after)}", "won": won}


def _score(value: float) -> str:
    return number(value) if np.isfinite(value) else "none"


def _strips(evaluation: Evaluation) -> list[dict[str, Any]]:
    """All pictures of the first two prompts that have several, before and after."""
    prompts = dict.fromkeys(one.prompt for one in evaluation.exhibits if one.index > 0)
    return [
        {
            "prompt": plain(prompt),
            "before": [figures.data_uri(one.before) for one in shown],
            "after": [figures.data_uri(one.after) for one in shown],
            "sharp": "sharp" if len(shown[0].before) <= 128 else "smooth",
        }
        for prompt in list(prompts)[:2]
        for shown in ([one for one in evaluation.exhibits if one.prompt == prompt][:8],)
    ]


def _opinion(opinion: Opinion) -> dict[str, Any]:
    """One row of the table of scorers."""
    value, ends = difference(opinion.difference) if opinion.difference else ("none", "")
    before = number(opinion.before.value) if opinion.before else "none"
    after = number(opinion.after.value) if opinion.after else "none"
    return {
        "name": plain(opinion.scorer, most=80),
        "primary": opinion.primary,
        "made_labels": opinion.made_labels,
        "unscored": opinion.unscored,
        "rate": bar(opinion.win_rate),
        "ties": percent(opinion.ties),
        "scores": f"{before} → {after}",
        "difference": value,
        "difference_interval": ends,
        "p": claims.p_value(opinion),
    }


def _drift(drift: Drift) -> dict[str, str]:
    """One row of the table of drifts."""
    if drift.ratio is None:
        value, ends = difference(drift.difference)
    else:
        value, ends = change(drift.ratio)
    ratio = drift.ratio
    seen = ratio is not None and (ratio.low > 1 or ratio.high < 1)
    return {
        "name": drift.name,
        "meaning": drift.meaning,
        "before": number(drift.before.value),
        "after": number(drift.after.value),
        "change": value,
        "interval": ends,
        "n": claims.sampled(drift),
        "seen": "seen" if seen else "unseen",
    }


def _curves(history: Rows, health: Rows) -> list[dict[str, Any]]:
    """The training's curves that there are numbers for, with captions that say what to look for."""
    found = [
        (
            figures.loss_curve(history),
            "Loss",
            "Each step faint, the running mean strong. Small changes are normal: "
            "a preference is a small difference of large errors.",
        ),
        (
            figures.accuracy_curve(history, health),
            "Pairs explained",
            "How often the model already prefers what was chosen. Amber: training batches. "
            "Blue: fixed held-out pairs with 95 % intervals. Dotted: chance.",
        ),
        (
            figures.margin_curve(health),
            "Margin on held-out pairs",
            "Above zero the chosen picture is explained better than before, compared with the "
            "rejected one. Line: median; band: nine pairs in ten.",
        ),
    ]
    return [
        {"svg": safe(svg), "title": title, "caption": caption}
        for svg, title, caption in found
        if svg is not None
    ]


def _limits(record: Mapping[str, Any]) -> dict[str, float]:
    """The limits of the winner's drift that the run was held to."""
    run = record.get("run")
    health = run.get("health") if isinstance(run, Mapping) else None
    named = {"warn": "winner_drift_warn", "stop": "winner_drift_stop"}
    if not isinstance(health, Mapping):
        return {}
    found = {word: health.get(name) for word, name in named.items()}
    return {word: float(v) for word, v in found.items() if isinstance(v, int | float)}


def _settings(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The run's settings as dotted names and values."""
    run = record.get("run")
    rows = flat(run) if isinstance(run, Mapping) else {}
    return [(plain(name), plain(value)) for name, value in rows.items()]


def _facts(evaluation: Evaluation, record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What identifies this result: conventions, digests, seeds, versions."""
    plan, sampler = evaluation.plan, flat(evaluation.plan.to_json()["sampler"])
    facts: dict[str, Any] = {
        "run digest": record.get("run_digest"),
        "beta convention": record.get("beta_convention"),
        "evaluation plan": plan.digest,
        "evaluation seed": plan.seed,
        "sampler": ", ".join(f"{name} {value}" for name, value in sampler.items()),
        "scorers": "; ".join(f"{one.scorer}: {one.identity}" for one in evaluation.opinions),
    }
    data = record.get("data")
    facts |= {"data digest": data.get("digest")} if isinstance(data, Mapping) else {}
    facts |= {f"model before, {name}": value for name, value in evaluation.before.items()}
    facts |= {
        f"model after, {name}": value
        for name, value in evaluation.after.items()
        if evaluation.before.get(name) != value
    }
    made = record or evaluation.provenance
    for group in ("versions", "machine"):
        values = made.get(group)
        if isinstance(values, Mapping):
            facts[group] = ", ".join(f"{name} {value}" for name, value in values.items())
    facts["code"] = made.get("code")
    return [(plain(name), plain(value)) for name, value in facts.items() if value is not None]


def _commands(evaluation: Evaluation, record: Mapping[str, Any]) -> list[str]:
    """The commands on record, in the order they were given."""
    found = [record.get("command"), evaluation.provenance.get("command")]
    return list(dict.fromkeys(plain(one) for one in found if one))
