"""The sentences of a report: what was found, how it is known, and what it does not show.

Every sentence is computed from the evaluation and the training's records; none is written by hand
for a particular result.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from palate.core.stats import Estimate
from palate.evaluate.drift import Drift
from palate.evaluate.result import Evaluation
from palate.evaluate.winrate import Opinion
from palate.report.words import change, count, interval, percent, plain, probability

Rows = Sequence[Mapping[str, Any]]


def outcome(rate: Estimate) -> str:
    """`better`, `worse`, or `no difference seen`: what the interval allows one to say."""
    if rate.low > 0.5:
        return "better"
    return "worse" if rate.high < 0.5 else "no difference seen"


def headline(evaluation: Evaluation, pairs: int | None) -> str:
    """The one sentence to remember, with its n and interval."""
    opinion, rate = evaluation.primary, evaluation.primary.win_rate
    start = f"After {count(pairs, 'pair')}, " if pairs else ""
    held_out = "held-out " if evaluation.plan.held_out else ""
    found = {
        "better": "the aligned model's picture is preferred",
        "worse": "the aligned model got worse: its picture is preferred",
        "no difference seen": "no difference is seen: the aligned model's picture is preferred",
    }[outcome(rate)]
    text = (
        f"{start}{found} on {percent(rate.value)} of {count(rate.n, held_out + 'prompt')} "
        f"(95 % interval {interval(rate)}), by {named(opinion.scorer)}."
    )
    return text[0].upper() + text[1:]


def standing(evaluation: Evaluation) -> str:
    """Whether the result tests a claim or looks for one, and why."""
    if evaluation.missing:
        return f"Exploratory: {'; '.join(plain(point) for point in evaluation.missing)}."
    return (
        f"Confirmatory: prompts, seed, scorers and tie rule were written down before the first "
        f"picture was drawn (plan {evaluation.plan.digest[:12]}, "
        f"{plain(evaluation.registered_at)[:16].replace('T', ' ')} UTC)."
    )


def power(evaluation: Evaluation) -> str:
    """What this many prompts can see."""
    n, least = evaluation.primary.win_rate.n, evaluation.smallest_visible
    if least is None:
        return f"{count(n, 'prompt')} cannot show any win rate reliably: read nothing into this."
    return (
        f"{count(n, 'prompt')} show a true win rate of {percent(least)} or more in 80 % of "
        "repeats; smaller differences may go unseen."
    )


def broken(evaluation: Evaluation) -> str:
    """How many pictures were black or of one colour."""
    before, after = evaluation.broken
    pictures = count(len(evaluation.measurements.prompts), "picture")
    return (
        f"Broken pictures (black or of one colour): {before} before and {after} after, "
        f"of {pictures} each; a broken picture loses."
    )


def p_value(opinion: Opinion) -> str:
    """The p-value that counts: the plain one for the registered question, else the corrected."""
    return probability(opinion.p_value if opinion.adjusted_p is None else opinion.adjusted_p)


def variety(evaluation: Evaluation) -> str:
    """What became of the variety of pictures of one prompt."""
    if not evaluation.variety:
        return (
            "Variety was not measured: every prompt had one picture. "
            "Plan variety_prompts to see whether pictures of one prompt became alike."
        )
    first = evaluation.variety[0]
    if first.ratio is None:
        return "Variety before was zero: every picture of a prompt was the same."
    value, ends = change(first.ratio)
    where = f"{value} ({ends}; {sampled(first)})"
    if first.ratio.high < 1:
        return f"Pictures of one prompt became more alike: variety {where}."
    if first.ratio.low > 1:
        return f"Pictures of one prompt became more varied: variety {where}."
    return f"No change in variety is seen: {where}."


def sampled(drift: Drift) -> str:
    """What a drift was measured on: `25 prompts × 8`."""
    return f"{count(drift.before.n, 'prompt')} × {drift.pictures}"


def limits(evaluation: Evaluation, *, trained: bool) -> list[str]:
    """What this result does not show, said before someone else has to."""
    plan, opinion = evaluation.plan, evaluation.primary
    sentences = [power(evaluation)]
    if trained:
        sentences.append(
            "One training run stands behind this: it speaks for this checkpoint, not for the "
            "method. A claim about a method needs at least three training seeds."
        )
    if opinion.made_labels:
        sentences.append(
            f"The labels came from {named(opinion.scorer)} itself. A high win rate "
            "shows that training learned this taste, not that anyone else shares it."
        )
    if not plan.held_out:
        sentences.append(
            "The plan does not say that the prompts were held out: some may have been trained on."
        )
    if plan.pictures_per_prompt == 1:
        sentences.append(
            "Each prompt was drawn from one noise; another noise gives other pictures."
        )
    sentences.append(
        "No people were asked in this evaluation; scorers stand in for them. "
        "The drift of style shows what a scorer may have been pleased by."
    )
    return sentences


def training(history: Rows, record: Mapping[str, Any]) -> str:
    """What was trained, in a sentence; what is missing is said."""
    if not history and not record:
        return "No training record was given, so this page cannot show what was trained."
    steps = record.get("steps") or (history[-1].get("step") if history else None)
    pairs = trained_pairs(record)
    parts = [count(int(steps), "step")] if steps else []
    parts += [count(pairs, "pair")] if pairs else []
    return f"Trained for {' on '.join(parts) or 'an unknown number of steps'}."


def health_sentence(health: Rows, record: Mapping[str, Any]) -> str:
    """What the health monitor said last; or that there was none."""
    if health:
        return plain(health[-1].get("sentence") or "The last check left no sentence.")
    if record.get("sentence"):
        return plain(record["sentence"])
    return "No health checks were recorded, so drift and saturation are unknown."


def trained_pairs(record: Mapping[str, Any]) -> int | None:
    """How many pairs were there to learn from, where the record says so."""
    data = record.get("data")
    found = data.get("train") if isinstance(data, Mapping) else None
    return found if isinstance(found, int) and found > 0 else None


def named(scorer: str) -> str:
    """A scorer's name as it stands in a sentence."""
    shown = plain(scorer, most=80)
    return shown if shown[:1].isupper() or shown.startswith("the ") else f"the {shown}"
