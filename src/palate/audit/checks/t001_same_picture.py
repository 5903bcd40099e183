"""T001: pairs whose two pictures look the same, and pictures used for several prompts."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

from palate.audit.audited import Audited
from palate.audit.check import Finding, Row, answer
from palate.core.stats import Estimate, cluster_share
from palate.data.votes import PairKey


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class SamePictureTwice:
    """Is a picture compared with itself, or used for several prompts?

    What is asked. Two things. Do the two pictures of a pair look the same, though their pixels
    differ (another JPEG quality, another size, a little brighter)? And is one picture, to the
    pixel, used for prompts that differ in more than case and spaces?

    Why it matters. Where nothing can be seen, the label is a coin toss, and the training learns
    to tell a picture from its own copy by what the copying left behind. A picture that is used
    for two prompts mostly shows what one of them asks for: either a file was mixed up, or
    pictures of another prompt were thrown in as easy losers.

    What to do. Leave such pairs out (`--drop T001`), and look at how the pictures were made.

    What it cannot see. Copies that were cropped, turned or mirrored. Pictures that differ in a
    detail smaller than a sixteenth of their side may be called the same though a careful person
    sees the difference. A picture used for two prompts may be right for both.
    """

    code: ClassVar[str] = "T001"
    name: ClassVar[str] = "same-picture-twice"
    question: ClassVar[str] = "Is a picture compared with itself, or used for several prompts?"

    def ask(self, data: Audited) -> Finding:
        """Compare the two pictures of every pair, and every picture's prompts."""
        alike = [key for key in data.groups if data.looks.same(*key[1:])]
        prompts = data.prompts_of
        shared = {name: used for name, used in prompts.items() if len(used) > 1}
        share = _share(data, alike)
        sentence = (
            f"In {len(alike):,} of {len(data.groups):,} pairs the two pictures look the same "
            f"(share {share}, prompts as the unit); {len(shared):,} of {len(prompts):,} pictures "
            "are used for several prompts."
        )
        rows = [_same(data, key) for key in alike]
        rows += [_reused(data, name, used) for name, used in shared.items()]
        figures = {
            "look_the_same": len(alike),
            "pairs": len(data.groups),
            "share": share.asdict(),
            "pictures_of_several_prompts": len(shared),
            "pictures": len(prompts),
        }
        return answer(self, "issue" if rows else "passed", sentence, tuple(rows), figures)


def _share(data: Audited, alike: list[PairKey]) -> Estimate:
    found = set(alike)
    return cluster_share(
        [float(key in found) for key in data.groups], [key[0] for key in data.groups]
    )


def _same(data: Audited, key: PairKey) -> Row:
    """A pair that looks the same; a judgement on it is worth as much as a coin toss."""
    note = "the two pictures look the same"
    return Row(
        ids=data.ids_of(key),
        pictures=data.winner_first(key),
        note=note,
        doubt=0.5,
        pairs=(key,),
    )


def _reused(data: Audited, name: str, used: Mapping[str, str]) -> Row:
    pairs = data.pairs_with[name]
    ids = tuple(dict.fromkeys(each for pair in pairs for each in data.ids_of(pair)))
    words = ", ".join(f"“{prompt[:60]}”" for prompt in list(used.values())[:3])
    note = f"one picture for {len(used)} prompts: {words}"
    return Row(ids=ids, pictures=(name,), note=note, pairs=pairs)
