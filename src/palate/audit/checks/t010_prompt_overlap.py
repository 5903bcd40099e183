"""T010: prompts that are also in an evaluation set."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from typing import ClassVar, final

from palate.audit.audited import Audited
from palate.audit.check import Finding, Row, answer
from palate.core.stats import cluster_share
from palate.data.folds import folded

_Parts = frozenset[str]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class PromptOverlap:
    """Are prompts of the data also in an evaluation set?

    What is asked. Which prompts are also in one of the evaluation sets that were named, if case,
    punctuation and spaces make no difference? And which are nearly: of the words and neighbouring
    words of both together, four fifths or more are the same?

    Why it matters. A model that was trained on a prompt is better on it than on others, and an
    evaluation on that prompt says nothing of new ones. `palate evaluate` refuses to call prompts
    held out that the run was trained on; here it is seen before training.

    What to do. Leave those prompts out, here (`--drop T010`) or in the evaluation. Near ones are
    counted, the first are among the figures, and they are no issue by themselves: in sets that
    were made by a template, neighbours are meant.

    What it cannot see. The same wish in other words or another language, and evaluation sets
    that nobody named.

    Attributes:
        near: Share of common words and neighbouring words from which on prompts are near; ours.
        shown: How many near prompts the figures list.
    """

    near: float = 0.8
    shown: int = 20

    code: ClassVar[str] = "T010"
    name: ClassVar[str] = "prompt-overlap"
    question: ClassVar[str] = "Are prompts of the data also in an evaluation set?"

    def ask(self, data: Audited) -> Finding:
        """Compare every prompt with every set."""
        sets = data.evidence.evaluation_prompts
        if sets is None:
            words = (
                "No evaluation set was named. Name a file with one prompt a line, or the small "
                "world's: --against world:held-out:200"
            )
            return answer(self, "not asked", words)
        prompts = list(dict.fromkeys(row.prompt for row in data.rows))
        rows_of: dict[str, list[str]] = {}
        for row in data.rows:
            rows_of.setdefault(row.prompt, []).append(row.id)
        words, rows, figures, wrong = list[str](), list[Row](), {}, False
        for name, theirs in sets.items():
            same = _same(prompts, theirs)
            others = [prompt for prompt in prompts if prompt not in same]
            close = _close(others, theirs, self.near)
            share = cluster_share([float(prompt in same) for prompt in prompts], prompts)
            words.append(
                f"{len(same):,} of {len(prompts):,} prompts are also in {name} (share {share}), "
                f"{len(close):,} more are near one of its {len(set(map(folded, theirs))):,}"
            )
            wrong = wrong or bool(same)
            rows += [_row(data, rows_of[p], f"also in {name}") for p in same]
            figures[name] = {
                "same": len(same),
                "near": len(close),
                "share": share.asdict(),
                "nearest": dict(list(close.items())[: self.shown]),
            }
        outcome = "issue" if wrong else "passed"
        return answer(self, outcome, "; ".join(words) + ".", tuple(rows), figures)


def _row(data: Audited, ids: Sequence[str], note: str) -> Row:
    pictures = data.by_id[ids[0]].images[:2]
    return Row(ids=tuple(ids), pictures=tuple(image.sha256 for image in pictures), note=note)


def _words(prompt: str) -> list[str]:
    return re.findall(r"\w+", folded(prompt))


def _same(ours: Sequence[str], theirs: Sequence[str]) -> dict[str, None]:
    """Our prompts that are also theirs, but for case, punctuation and spaces."""
    # A prompt without any letter or digit is compared as it is written.
    known = {tuple(_words(prompt)) or (folded(prompt),) for prompt in theirs}
    found = [prompt for prompt in ours if (tuple(_words(prompt)) or (folded(prompt),)) in known]
    return dict.fromkeys(found)


def _parts(prompt: str) -> _Parts:
    """Words, and every two neighbours: order counts, but not for everything."""
    words = _words(prompt)
    return frozenset((*words, *(f"{a} {b}" for a, b in pairwise(words))))


def _close(ours: Sequence[str], theirs: Sequence[str], near: float) -> dict[str, str]:
    """Our prompts that are near one of theirs, each with the nearest."""
    parts = {prompt: _parts(prompt) for prompt in theirs}
    common = Counter(part for each in parts.values() for part in each)
    index: dict[str, list[str]] = {}
    for prompt, each in parts.items():
        for part in _rarest(each, common, near):
            index.setdefault(part, []).append(prompt)
    found: dict[str, str] = {}
    for prompt in ours:
        mine = _parts(prompt)
        best = max(_shares(mine, index, parts, common, near), default=(0.0, ""))
        if best[0] >= near:
            found[prompt] = best[1]
    return found


def _shares(
    mine: _Parts,
    index: Mapping[str, Sequence[str]],
    parts: Mapping[str, _Parts],
    common: Mapping[str, int],
    near: float,
) -> Iterator[tuple[float, str]]:
    """How much is common with each of theirs that could be near."""
    others = {other for part in _rarest(mine, common, near) for other in index.get(part, ())}
    for other in others:
        both = len(mine & parts[other])
        yield both / (len(mine) + len(parts[other]) - both), other


def _rarest(parts: _Parts, common: Mapping[str, int], near: float) -> list[str]:
    """So many of the rarest parts that two near prompts share one of them."""
    order = sorted(parts, key=lambda part: (common.get(part, 0), part))
    return order[: len(order) - ceil(near * len(order)) + 1]
