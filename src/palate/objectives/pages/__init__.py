"""One page per objective, always under the same six headings.

A page is Markdown beside this file. What an objective needs and what its loss starts at are not
written in the page but read from the class, so that neither can drift; what a step costs is read
from what was counted.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from palate.core.problems import DataError
from palate.objectives.base import Objective
from palate.objectives.cost import in_words

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
    "users": ("people's names and some of their pairs", ""),
}
# The same for a table, where what nearly all need is not said.
_BRIEFLY = {
    "reference": ("reference", ""),
    "rejected": ("", "chosen only"),
    "averages": ("averages", ""),
    "facts": ("facts", ""),
    "whole_batch": ("whole step", ""),
    "generation": ("drawing", ""),
    "scorer": ("scorer", ""),
    "users": ("people", ""),
}
_EVIDENCE = {
    "noised": "noised pictures",
    "inverted": "pictures led back to noise",
    "steps": "steps of drawn pictures",
}


def page(objective: type[Objective], recipes: Sequence[str] = ()) -> str:
    """The whole page of an objective, as Markdown.

    Args:
        objective: The method.
        recipes: Published runs of it, to be named after its settings.

    Raises:
        DataError: when the page is missing.
    """
    text = _text(objective).replace("{needs}", needs(objective))
    text = text.replace("{at_init}", at_init(objective))
    if recipes:
        text = text.replace(f"## {HEADINGS[3]}", f"{_published(recipes)}\n\n## {HEADINGS[3]}")
    head = f"# {objective.title} (`{objective.name}`)\n\n{objective.paper}, {objective.year}. "
    cost = f"Passes of a step beside Diffusion-DPO's: {in_words(objective)}.\n\n"
    return head + cost + text.strip() + "\n"


def needs(objective: type[Objective]) -> str:
    """What must be collected before the objective can judge, in words."""
    words = _said(objective, _NEEDS)
    if objective.needs.evidence != ("noised",):
        words.append(" or ".join(_EVIDENCE[kind] for kind in objective.needs.evidence))
    return ", ".join([*words, f"labels: {objective.needs.labels}"])


def needs_briefly(objective: type[Objective]) -> str:
    """The same in as few words as fit a table, with its own kind of evidence only."""
    words = _said(objective, _BRIEFLY)
    if objective.needs.evidence[0] == "inverted":
        words.append("inversion")
    return ", ".join([*words, f"labels: {objective.needs.labels}"])


def at_init(objective: type[Objective]) -> str:
    """What the loss of every pair starts at with the default settings, in words."""
    value = objective().at_init()
    return "whatever the model's error is" if value is None else f"{value:.6g}"


def evidence(objective: type[Objective]) -> str:
    """The status of the evidence: the first sentence under that heading."""
    _, _, section = _text(objective).partition(f"## {HEADINGS[-1]}")
    first, _, _ = " ".join(section.split()).partition(". ")
    return first.rstrip(".") + "."


def _said(objective: type[Objective], words: Mapping[str, tuple[str, str]]) -> list[str]:
    """What is said of each need that is there, and of each that is not."""
    facts = objective.needs.asdict()
    return [said for name, (yes, no) in words.items() if (said := yes if facts[name] else no)]


def _published(recipes: Sequence[str]) -> str:
    names = ", ".join(f"`{name}`" for name in recipes)
    many = "A published run" if len(recipes) == 1 else "Published runs"
    return f"{many} for `palate train --recipe NAME`, every setting with its source: {names}."


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
