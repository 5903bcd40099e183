"""Before the first step: the policy must be the reference, exactly.

If it is not, every margin that follows compares two starting points instead of what was learned.
"""

from typing import Any

from palate.core.problems import HealthStop, require
from palate.train.batch import Rows
from palate.train.step import Learner


def start_facts(learner: Learner, batch: Rows) -> dict[str, Any]:
    """Margin and loss before the first step, which must be zero and the objective's own value.

    Raises:
        HealthStop: when the policy does not start at the reference.
    """
    found = learner.look(batch)
    if "margin" not in found:
        return {"applies": False}
    floor, size = float(found["margin"].abs().max()), float(found["chosen_error"].abs().mean())
    expected = learner.objective.at_init()
    loss = float(found["loss"].mean())
    facts: dict[str, Any] = {
        "applies": True,
        "margin": floor,
        "loss": loss,
        "noise_floor": floor,
        "warnings": [],
    }
    require(
        floor <= 1e-3 * size,
        got=f"a margin of {floor:.3g} before the first step (errors are {size:.3g})",
        need="exactly 0, because the policy starts at the reference",
        fix="Use a model whose adapters start at zero, and the same precision for both.",
        kind=HealthStop,
    )
    if floor > 0:
        logit = float(found["logit"].abs().max()) if "logit" in found else float("nan")
        text = f"Precision floor: before the first step the margin is {floor:.2g} instead of 0 "
        text += f"(logit {logit:.2g}); anything smaller is noise. Consider plan.precision=fp32."
        facts["warnings"].append(text)
    if size == 0:
        text = "Every error is 0 before the first step: the target is the reference's own answer, "
        text += "so the first gradient is 0 and nothing will be learned but rounding noise. "
        facts["warnings"].append(text + "Use inversion.target=trajectory.")
    require(
        floor > 0 or expected is None or abs(loss - expected) < 1e-6,
        got=f"a loss of {loss:.9g} before the first step",
        need=f"{expected} at a margin of 0",
        fix="Report this: the objective does not start where it says.",
        kind=HealthStop,
    )
    return facts
