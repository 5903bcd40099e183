"""One page per objective, always under the same six headings.

A page is Markdown beside this file. What an objective needs and what its loss starts at are not
written in the page but read from the class, so that neither can drift.
"""

from pathlib import Path

from palate.core.problems import DataError
from palate.objectives.base import Objective

HEADINGS = (
    "The idea",
    "What it needs",
    "Settings",
    "What to watch",
    "Differences from the paper's code",
    "Evidence",
)
# In the order they are said; an empty half is left out.
_NEEDS = {
    "reference": ("a reference", "no reference"),
    "rejected": ("both pictures", "the chosen picture only"),
    "averages": ("running averages of the policy", ""),
    "facts": ("numbers beside each pair", ""),
    "whole_batch": ("a statistic of the whole step", ""),
    "generation": ("pictures drawn by the policy", ""),
    "scorer": ("a scorer", ""),
}
_EVIDENCE = {
    "noised": "noised pictures",
    "inverted": "pictures led back to noise",
    "steps": "steps of drawn pictures",
}


def page(objective: type[Objective]) -> str:
    """The whole page of an objective, as Markdown.

    Raises:
        DataError: when the page is missing.
    """
    text = _text(objective).replace("{needs}", needs(objective))
    head = f"# {objective.title} (`{objective.name}`)\n\n{objective.paper}, {objective.year}\n\n"
    return head + text.replace("{at_init}", at_init(objective)).strip() + "\n"


def needs(objective: type[Objective]) -> str:
    """What must be collected before the objective can judge, in words."""
    facts = objective.needs.asdict()
    words = [yes if facts[name] else no for name, (yes, no) in _NEEDS.items()]
    if objective.needs.evidence != ("noised",):
        words.append(" or ".join(_EVIDENCE[kind] for kind in objective.needs.evidence))
    return ", ".join([*filter(None, words), f"labels: {objective.needs.labels}"])


def at_init(objective: type[Objective]) -> str:
    """What the loss of every pair starts at with the default settings, in words."""
    value = objective().at_init()
    return "whatever the model's error is" if value is None else f"{value:.6g}"


def evidence(objective: type[Objective]) -> str:
    """The status of the evidence: the first sentence under that heading."""
    _, _, section = _text(objective).partition(f"## {HEADINGS[-1]}")
    first, _, _ = " ".join(section.split()).partition(". ")
    return first.rstrip(".") + "."


def _text(objective: type[Objective]) -> str:
    path = Path(__file__).parent / f"{objective.name}.md"
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(
            got=f"no page {path.name} for {objective.title}",
            need="one page per objective",
            fix="Install palate again; a new objective's page goes beside the others.",
        ) from error
