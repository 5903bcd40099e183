"""What a health check says, in one sentence: rules that turn numbers into a cause.

The training loss cannot do this: it falls while the pictures people preferred are denoised
worse and worse, as long as the others get worse still. Each rule here is a pure function of the
check and those before it, has a stable code, and can be silenced by that code.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, final

from palate.train.groups import Limits

Status = Literal["healthy", "watch", "stopped"]
Row = Mapping[str, Any]
# Drift smaller than this is rounding and the draw of pairs, not a direction.
TREND = 0.005
EARLY = 0.5
MEMORISED = 0.55
# Of fewer held-out prompts even all or none may be chance, or one odd prompt.
FEWEST_PROMPTS = 10
CAUSES = ("labels-swapped", "labels-random")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is not as it should be.

    Attributes:
        code: Its stable name.
        status: How bad it is.
        sentence: What is wrong, for a person.
    """

    code: str
    status: Status
    sentence: str


def findings(row: Row, before: Sequence[Row], limits: Limits) -> list[Finding]:
    """Everything a check finds, the worst first, without the codes that are silenced."""
    rules = (_winner_drift(row, before, limits), *_labels(row, limits), *_shape(row, limits))
    found = [item for item in rules if item is not None and item.code not in limits.ignore]
    return sorted(found, key=lambda item: item.status != "stopped")


def verdict(found: Sequence[Finding], row: Row) -> dict[str, Any]:
    """The check's one status word, code and sentence, and all findings as plain values."""
    worst = found[0] if found else Finding(code="healthy", status="healthy", sentence=_calm(row))
    # Drift may only be the consequence; the cause belongs into the same sentence.
    causes = [item.sentence for item in found[1:] if item.code in CAUSES]
    sentence = " ".join([worst.sentence, *causes])
    if _judged(row) and too_few(row):
        many = f"{row['pairs']} from {row['accuracy']['n']} prompts"
        sentence += f" There are too few held-out pairs to judge learning ({many})."
    return {
        **asdict(worst),
        "sentence": sentence,
        "findings": [asdict(item) for item in found],
    }


def _winner_drift(row: Row, before: Sequence[Row], limits: Limits) -> Finding | None:
    drift = row["winner_drift"]
    if drift <= limits.winner_drift_warn:
        return None
    recent = [earlier["winner_drift"] for earlier in before]
    lasting = [*recent, drift][-limits.checks_before_stop :]
    stops = len(lasting) >= limits.checks_before_stop and all(
        value > limits.winner_drift_stop for value in lasting
    )
    text = f"Winner drift: the chosen pictures are denoised {_percent(drift)} worse than by the "
    text += f"reference (warning at {_percent(limits.winner_drift_warn)}, "
    text += f"stop at {_percent(limits.winner_drift_stop)})"
    cause = ""
    if row["loser_drift"] > drift and row["margin"] > 0:
        cause = "; the margin grows because the rejected ones get worse still"
    tail = f", in {limits.checks_before_stop} checks running" if stops else ""
    return Finding(
        code="winner-drift",
        status="stopped" if stops and limits.stop else "watch",
        sentence=f"{text}{tail}{cause}. Lower the learning rate or raise beta.",
    )


def _labels(row: Row, limits: Limits) -> list[Finding | None]:
    """What the held-out accuracy says of the labels."""
    accuracy, trained = row["accuracy"], row["training_accuracy"]
    if not _judged(row) or too_few(row):
        return []
    share = f"{accuracy['value']:.2f} ({accuracy['low']:.2f} to {accuracy['high']:.2f})"
    share += f" on {row['pairs']} held-out pairs"
    if accuracy["high"] < 0.5:
        text = f"Accuracy is {share}, below chance: training and held-out labels contradict "
        text += "each other, so one of them looks swapped."
        return [Finding(code="labels-swapped", status="watch", sentence=text)]
    if accuracy["value"] > limits.accuracy_high and row["progress"] <= EARLY:
        text = f"Accuracy is already {share}: the pairs may be separable by something other "
        text += "than quality, such as size, source or style."
        return [Finding(code="separable", status="watch", sentence=text)]
    flat = accuracy["low"] <= 0.5 <= accuracy["high"] and row["margin_low"] <= 0
    if row["progress"] < limits.learning_by or not flat:
        return []
    # Memorised means better on the training pairs than noise in the held-out ones can explain.
    if trained is not None and trained["low"] > max(MEMORISED, accuracy["high"]):
        text = f"Accuracy is {trained['value']:.2f} on training pairs but {share}: the labels "
        text += "look random, and are being memorised."
        return [Finding(code="labels-random", status="watch", sentence=text)]
    text = f"No learning seen: after {100 * row['progress']:.0f} % of the run accuracy is {share}, "
    text += "which chance explains too. Hold out more pairs, train longer, or look at the labels."
    return [Finding(code="no-learning", status="watch", sentence=text)]


def _shape(row: Row, limits: Limits) -> list[Finding | None]:
    """What drifts and logits say together."""
    found: list[Finding | None] = []
    winner, loser = row["winner_drift"], row["loser_drift"]
    if TREND < winner <= limits.winner_drift_warn and loser > winner and row["margin"] > 0:
        text = f"The margin grows because the loser gets worse (+{_percent(loser)}), while the "
        text += f"winner gets worse too (+{_percent(winner)})."
        found.append(Finding(code="loser-worse", status="watch", sentence=text))
    if row["saturated"] is not None and row["saturated"] >= limits.saturation_share:
        text = f"{100 * row['saturated']:.0f} % of the pairs have a logit beyond "
        text += f"±{limits.saturation_logit:g}: they no longer teach anything. "
        text += "Lower beta or the learning rate."
        found.append(Finding(code="saturated", status="watch", sentence=text))
    return found


def _calm(row: Row) -> str:
    drift = row["winner_drift"]
    word = "better than" if drift < 0 else "worse than"
    how = f"{_percent(abs(drift))} {word}" if abs(drift) >= 0.0005 else "as well as"
    text = f"Healthy: the chosen pictures are denoised {how} by the reference"
    accuracy = row["accuracy"]
    if not _judged(row) or too_few(row):
        return f"{text}."
    return f"{text}, and held-out accuracy is {accuracy['value']:.2f}."


def _judged(row: Row) -> bool:
    """Whether the check has an accuracy that training can have changed."""
    return row["accuracy"] is not None and row["progress"] > 0


def too_few(row: Row) -> bool:
    """Whether the accuracy rests on too few prompts to say anything of the labels."""
    return row["accuracy"]["n"] < FEWEST_PROMPTS


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
