"""What a server answered, read as strictly as a stranger's file.

Two things can be wrong. What came may be no reply of a chat server at all (`NoReply`): that says
something about the server, which may be asked again. Or it is a reply in which the model did not
answer (`Heard` without a place): that is its answer, and it is kept. In neither case is anything
guessed.

Where the server gives the log probabilities of its tokens, the probability of each allowed answer
is summed over the alternatives at the place where the answer begins, and divided by the sum over
all allowed answers: what the model would have said outside the list is not counted. Without them
an answer counts as certain.

Read next: `endpoint.py`, which asks.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

from palate.label.asking import Heard, Place, unheard, weigh
from palate.label.rubric import Rubric

LONGEST_CONTENT: Final = 4_000
_KEPT: Final = 500
_MOST_TOKENS: Final = 1_000
_START: Final = re.compile(r'"answer"\s*:\s*"[ \t]*')
_FINISHED: Final = {
    "content_filter": "refused",
    "tool_calls": "tool-call",
    "function_call": "tool-call",
}


class NoReply(Exception):  # noqa: N818 - it is what came, not an error of ours
    """What came is no reply of a chat server. `reason` is a word that stays the same."""

    def __init__(self, reason: str, detail: str = "") -> None:
        self.reason, self.detail = reason, detail
        super().__init__(f"{reason}: {detail}" if detail else reason)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A reply of a chat server.

    Attributes:
        model: Which model it says it is.
        fingerprint: Of the server's system, where it tells.
        tokens_in: How many it read; None where it does not tell.
        tokens_out: How many it wrote.
        heard: What the model answered.
    """

    model: str
    fingerprint: str | None
    tokens_in: int | None
    tokens_out: int | None
    heard: Heard


def read_reply(body: bytes, rubric: Rubric) -> Reply:
    """A reply from the bytes of its body.

    Raises:
        NoReply: `malformed`, when it is cut, not JSON, or not of a chat completion's form.
    """
    try:
        value = strict_json(body.decode())
    except ValueError as error:
        raise NoReply("malformed", str(error)[:200]) from None
    if not isinstance(value, dict):
        raise NoReply("malformed", f"a {type(value).__name__}")
    choices, model = value.get("choices"), value.get("model")
    if not isinstance(choices, list) or not choices or not isinstance(model, str) or not model:
        raise NoReply("malformed", f"keys {', '.join(sorted(value))[:200]}")
    if not all(
        isinstance(each, dict) and isinstance(each.get("message"), dict) for each in choices
    ):
        raise NoReply("malformed", "a choice without a message")
    usage = value.get("usage")
    counts: Mapping[str, Any] = usage if isinstance(usage, dict) else {}
    print_ = value.get("system_fingerprint")
    return Reply(
        model=model[:_KEPT],
        fingerprint=print_[:_KEPT] if isinstance(print_, str) else None,
        tokens_in=_count(counts.get("prompt_tokens")),
        tokens_out=_count(counts.get("completion_tokens")),
        heard=_heard(choices, rubric),
    )


def strict_json(text: str) -> Any:
    """A JSON value without repeated keys, NaN or infinity.

    Raises:
        ValueError: when the text is anything else.
    """
    try:
        return json.loads(
            text, object_pairs_hook=_once, parse_constant=_no_number, parse_float=_finite
        )
    except RecursionError:
        raise ValueError("nested too deeply") from None


def same_model(asked: str, reported: str) -> bool:
    """Whether a server's name for its model is the one that was asked for.

    The owner before it may be left out by the server. A date behind it makes another name: the
    model that is served under the plain one may be another tomorrow.
    """
    wanted, found = asked.strip().casefold(), reported.strip().casefold()
    return found in {wanted, wanted.rpartition("/")[2]}


def _heard(choices: Sequence[Mapping[str, Any]], rubric: Rubric) -> Heard:
    """What the model answered, from a reply's choices."""
    if len(choices) > 1:
        return unheard("two-answers", choices=len(choices))
    choice = choices[0]
    message, finish = choice["message"], choice.get("finish_reason")
    if message.get("refusal"):
        return unheard("refused", refusal=_cut(message["refusal"]))
    if message.get("tool_calls") or message.get("function_call"):
        return unheard("tool-call")
    content = message.get("content")
    if finish != "stop":
        word = _FINISHED.get(str(finish), "unfinished")
        return unheard(word, finish=_cut(finish), content=_cut(content))
    if content is None or (isinstance(content, str) and not content.strip()):
        return unheard("no-answer")
    if not isinstance(content, str):
        return unheard("junk", content=_cut(content))
    if len(content) > LONGEST_CONTENT:
        return unheard("too-long", characters=len(content), content=_cut(content))
    word = _answer(content, rubric)
    if word is None:
        return unheard("junk", content=_cut(content))
    return _weighed(word, content, choice.get("logprobs"), rubric)


def _answer(content: str, rubric: Rubric) -> str | None:
    """The allowed answer that a content gives, or None."""
    try:
        value = strict_json(content.strip(" \t\r\n"))
    except ValueError:
        return None
    if not isinstance(value, dict) or not {"answer"} <= set(value) <= {"answer", "reason"}:
        return None
    answer = value["answer"]
    if not isinstance(answer, str) or not isinstance(value.get("reason", ""), str):
        return None
    # Letters that only look like A or B are not folded into them.
    plain = answer.strip(" \t\r\n")
    small = plain.lower() if plain.isascii() else ""
    return next((word for word in rubric.answers if word.lower() == small), None)


def _weighed(word: str, content: str, logprobs: Any, rubric: Rubric) -> Heard:
    """An answer with its probability, or `inconsistent` where the two say different things."""
    raw: dict[str, Any] = {"content": _cut(content)}
    places: dict[str | None, Place] = {rubric.first: "first", rubric.second: "second"}
    place: Place = places.get(word, "tie")
    try:
        masses = _masses(logprobs, content, word, rubric)
    except ValueError as error:
        return unheard("inconsistent", **raw, why=str(error))
    if masses is None:
        certain = {"first": 1.0, "second": 0.0, "tie": 0.5}[place]
        return Heard(place=place, first=certain, reason="", raw=raw)
    raw["probabilities"] = masses
    weighed = weigh(masses, rubric)
    if weighed is None or masses[word] < max(masses.values()):
        return unheard("inconsistent", **raw, why="another answer was more probable")
    return Heard(place=place, first=weighed[1], reason="", raw=raw)


def _masses(logprobs: Any, content: str, word: str, rubric: Rubric) -> dict[str, float] | None:
    """Probability of each allowed answer, where the answer begins; None where it is not told.

    Raises:
        ValueError: when what is told does not fit the content.
    """
    if logprobs is None or (isinstance(logprobs, dict) and not logprobs.get("content")):
        return None
    tokens = logprobs.get("content") if isinstance(logprobs, dict) else None
    start = _START.search(content)
    if not isinstance(tokens, list) or len(tokens) > _MOST_TOKENS or start is None:
        raise ValueError("log probabilities of another form")
    if not all(isinstance(t, dict) and isinstance(t.get("token"), str) for t in tokens):
        raise ValueError("tokens of another form")
    texts = [token["token"] for token in tokens]
    until = start.end() + len(word)
    if "".join(texts)[:until] != content[:until]:
        raise ValueError("tokens of another text")
    place = 0
    while place + len(texts[0]) <= start.end():
        place += len(texts.pop(0))
    return _alternatives(tokens[-len(texts)], texts[0][: start.end() - place], rubric)


def _alternatives(token: Mapping[str, Any], before: str, rubric: Rubric) -> dict[str, float] | None:
    """Sum the alternatives that begin each answer; `before` is what of the token stands before."""
    listed = token.get("top_logprobs") or []
    if not isinstance(listed, list) or not all(isinstance(each, dict) for each in listed):
        raise ValueError("alternatives of another form")
    chances = {str(each.get("token")): _chance(each.get("logprob")) for each in (token, *listed)}
    # One alternative alone is no probability: it says only that it was chosen.
    if len(chances) < 2:
        return None
    masses = dict.fromkeys(rubric.answers, 0.0)
    for text, chance in chances.items():
        word = _begun(text.removeprefix(before), rubric) if text.startswith(before) else None
        if word is not None:
            masses[word] += chance
    return masses


def _chance(logprob: Any) -> float:
    good = isinstance(logprob, int | float) and not isinstance(logprob, bool)
    # Some servers round a little above zero.
    if not good or not math.isfinite(logprob) or logprob > 1e-3:
        raise ValueError("a log probability that is none")
    return math.exp(min(max(logprob, -700.0), 0.0))


def _begun(text: str, rubric: Rubric) -> str | None:
    """The one answer that a token begins or completes."""
    rest = text.lstrip(" \t").lower()
    found = [
        word
        for word in rubric.answers
        if rest and (word.lower().startswith(rest) or _completes(rest, word.lower()))
    ]
    return found[0] if len(found) == 1 else None


def _completes(rest: str, word: str) -> bool:
    """Whether a token is the answer with nothing behind it but the end of the object."""
    return rest.startswith(word) and not rest[len(word) :].strip('"} \t\r\n,')


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a repeated key")
    return found


def _no_number(word: str) -> Any:
    raise ValueError(f"{word}, which is no number of JSON")


def _finite(word: str) -> float:
    value = float(word)
    if not math.isfinite(value):
        raise ValueError("a number without end")
    return value


def _count(value: Any) -> int | None:
    good = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**9
    return value if good else None


def _cut(value: Any) -> str:
    """The beginning of what was said, for the record."""
    return str(value)[:_KEPT].encode("utf-8", "replace").decode()
