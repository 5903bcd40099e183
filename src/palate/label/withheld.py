"""Which pairs a labeler gave no label, and why: kept beside its journal, for whoever looks at them.

Nothing is trained on these, so they are no records of the store. The list says of each pair which
pictures, the reason, and what the labeler signed; it is replaced as a whole, and holds what is so
now: a pair that was labelled after all leaves it.

Read next: `fill.py`, who writes here.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, final

from palate.core.files import write_atomic
from palate.core.plain import plain
from palate.core.problems import DataError
from palate.data.votes import PairKey
from palate.label.labeler import Answer, Question

_ODD: Final = re.compile(r"[^A-Za-z0-9._-]+")
_NAME: Final = 60
_DIGEST: Final = 12


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Withheld:
    """A pair without a label.

    Attributes:
        pair: Prompt and pictures.
        reason: Why, in the labeler's word.
        signature: How it came to that.
    """

    pair: PairKey
    reason: str
    signature: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @classmethod
    def of(cls, question: Question, answer: Answer) -> "Withheld":
        """A question that was answered without a label."""
        return cls(pair=question.key, reason=answer.reason, signature=plain(answer.signature))

    def asdict(self) -> dict[str, Any]:
        """The same as plain values, without the signature."""
        return {"prompt": self.pair[0], "pictures": list(self.pair[1:]), "reason": self.reason}


def place_of(folder: Path, judge: str, identity: str) -> Path:
    """Where the list of a judge is; its name, as far as a file's name may hold it, and a digest."""
    plain = _ODD.sub("-", judge).strip("-.")[:_NAME]
    return folder / f"{plain}-{identity[:_DIGEST]}-withheld.jsonl"


def read_withheld(path: Path) -> dict[PairKey, Withheld]:
    """The list as it is; empty where there is none.

    Raises:
        DataError: when it was damaged.
    """
    if not path.is_file():
        return {}
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
        return {each.pair: each for each in (_read(line) for line in lines if line)}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            got=f"{path}, which cannot be read ({error!r})",
            need="the list as it was written",
            fix="Remove it: the same labeling writes it again, and asks nothing for it.",
        ) from error


def write_withheld(path: Path, judge: str, pairs: Iterable[Withheld]) -> None:
    """Put a list in the place of the one before; none where nothing is withheld.

    Raises:
        StateError: when the disk refuses; the list before stays.
    """
    lines = [
        json.dumps(
            {**each.asdict(), "judge": judge, "signature": dict(each.signature)},
            sort_keys=True,
            ensure_ascii=False,
            allow_nan=False,
        )
        for each in pairs
    ]
    text = "".join(f"{line}\n" for line in lines)
    if text != (path.read_text(encoding="utf-8") if path.exists() else ""):
        write_atomic(path, text)


def _read(line: str) -> Withheld:
    value = json.loads(line)
    first, second = value["pictures"]
    pair = str(value["prompt"]), str(first), str(second)
    return Withheld(pair=pair, reason=str(value["reason"]), signature=value["signature"])
