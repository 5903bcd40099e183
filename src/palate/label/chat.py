"""What goes over the wire for one way of asking: words, pictures, and the form of the answer.

Read next: `work.py`, which sends it.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final, final

from palate.core.problems import require
from palate.label.asking import EMPTY, Asked, wording
from palate.label.labeler import Pictures, Question
from palate.label.pixels import data_url, grey_like
from palate.label.rubric import Rubric
from palate.label.server import Bounds
from palate.scorers.fitted import fitted

_LONGEST_ANSWER: Final = 256
_ALTERNATIVES: Final = 20


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Manners:
    """How pairs are asked about.

    Attributes:
        largest_side: Pictures are made smaller to fit it; None sends them as they are.
        probabilities: Ask for log probabilities; without them every answer counts as certain.
        structured: Ask for a JSON schema; some servers do not know it.
        canary: Try each verdict by the reversed question, see `asking.py`.
        allow_orders: Ask also about captions that speak to the judge.
        at_once: Pairs asked about at one time.
        give_up_after: Failures of the server in a row, after their retries, that end a labelling.
    """

    largest_side: int | None = None
    probabilities: bool = True
    structured: bool = True
    canary: bool = True
    allow_orders: bool = False
    at_once: int = 4
    give_up_after: int = 8

    def __post_init__(self) -> None:
        side = self.largest_side
        require(
            (side is None or side >= 16) and 1 <= self.at_once <= 256 and self.give_up_after >= 1,
            got=f"largest_side={side}, at_once={self.at_once}, give_up_after={self.give_up_after}",
            need="a side of at least 16, 1 to 256 pairs at once, and at least 1 failure",
            fix="Leave them out for pictures as they are, 4 and 8.",
        )


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """Whom to ask, what, and how.

    Attributes:
        model: Its name, as the server knows it.
        url: The server's address.
        key: Sent to that address; in no record and no message.
        rubric: What is asked.
        bounds: How long and how often.
        manners: How pairs are asked about.
    """

    model: str
    url: str
    key: str | None = field(repr=False)
    rubric: Rubric
    bounds: Bounds
    manners: Manners

    @property
    def raw(self) -> dict[str, Any]:
        """What single answers depend on."""
        names = ("largest_side", "probabilities", "structured")
        kept = {name: asdict(self.manners)[name] for name in names}
        return {"model": self.model, "url": self.url, "rubric": self.rubric.digest, **kept}


def request(terms: Terms, question: Question, asked: Asked, pictures: Pictures) -> dict[str, Any]:
    """The body of a chat request. The caption stands in the user's part alone."""
    words = wording(terms.rubric, question, asked)
    content: list[dict[str, Any]] = [{"type": "text", "text": words.caption}]
    for name, place in zip(words.names, asked.shown, strict=True):
        # The grey picture has the size of the one beside it.
        real = question.images[max(asked.shown) if place == EMPTY else place]
        pixels = fitted(pictures(real.sha256), terms.manners.largest_side)
        url = data_url(grey_like(pixels) if place == EMPTY else pixels)
        content.append({"type": "text", "text": name})
        content.append({"type": "image_url", "image_url": {"url": url}})
    content.append({"type": "text", "text": words.question})
    made: dict[str, Any] = {
        "model": terms.model,
        "messages": [
            {"role": "system", "content": words.instruction},
            {"role": "user", "content": content},
        ],
        "temperature": 0,
        "max_tokens": _LONGEST_ANSWER,
    }
    if terms.manners.probabilities:
        made |= {"logprobs": True, "top_logprobs": _ALTERNATIVES}
    if terms.manners.structured:
        made["response_format"] = schema(terms.rubric)
    return made


def schema(rubric: Rubric) -> Mapping[str, Any]:
    """The form of an answer, for servers that can hold a model to one."""
    return {
        "type": "json_schema",
        "json_schema": {
            "name": "preference",
            "strict": True,
            "schema": {
                "type": "object",
                "properties": {"answer": {"type": "string", "enum": list(rubric.answers)}},
                "required": ["answer"],
                "additionalProperties": False,
            },
        },
    }
