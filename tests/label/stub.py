"""A chat server on this machine that answers like a vision model, or misbehaves on purpose.

It is a real HTTP server: it decodes the pictures it is sent and, left alone, prefers the brighter
one. It writes down every request by question and order, and how many bytes it got rid of.
"""

import base64
import gzip
import io
import json
import re
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
from PIL import Image

MODEL = "stub-vl"
SLOW = 30.0


@dataclass(frozen=True)
class Said:
    """What a request asked: caption, pictures as shown, question."""

    caption: str
    pictures: tuple[np.ndarray, np.ndarray]
    instruction: str
    question: str
    body: dict[str, Any]

    @property
    def worse(self) -> bool:
        return "worse" in self.question or "less exactly" in self.question

    @property
    def key(self) -> tuple[str, str, bytes, bytes]:
        """The question and its order."""
        return (self.caption, self.question, *(p.tobytes() for p in self.pictures))

    def honest(self) -> str:
        """The brighter picture, or the darker one where the worse is asked for."""
        first, second = (float(picture.mean()) for picture in self.pictures)
        grey = [bool((picture == 128).all()) for picture in self.pictures]
        if any(grey):
            # Nothing is worse than an empty picture.
            return "A" if grey[0] == self.worse else "B"
        if abs(first - second) < 1:
            return "tie"
        return "A" if (first > second) != self.worse else "B"


@dataclass
class Turn:
    """One request that waits for its answer."""

    stub: "Stub"
    handler: BaseHTTPRequestHandler
    said: Said
    number: int
    served: int = 0

    def write(self, data: bytes) -> None:
        """Send bytes, counted as far as they could be sent."""
        view = memoryview(data)
        while view:
            sent = self.handler.connection.send(view[:16_384])
            self.served += sent
            view = view[sent:]

    def head(self, status: int = 200, **headers: str) -> None:
        lines = [f"HTTP/1.1 {status} Whatever", "Connection: close"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.write(("\r\n".join(lines) + "\r\n\r\n").encode())

    def whole(self, body: bytes | str, status: int = 200, **headers: str) -> None:
        """A whole response."""
        data = body.encode() if isinstance(body, str) else body
        headers.setdefault("Content_Type", "application/json")
        headers.setdefault("Content_Length", str(len(data)))
        self.head(status, **headers)
        self.write(data)

    def reply(self, content: Any = None, **changed: Any) -> None:
        """A chat completion with a content, and other parts changed."""
        self.whole(json.dumps(self.completion(content, **changed)))

    def completion(
        self,
        content: Any = None,
        *,
        finish: Any = "stop",
        message: dict[str, Any] | None = None,
        logprobs: Any = None,
        **changed: Any,
    ) -> dict[str, Any]:
        said = {"role": "assistant", "content": content, **(message or {})}
        choice = {"index": 0, "message": said, "finish_reason": finish, "logprobs": logprobs}
        return {
            "id": "x",
            "object": "chat.completion",
            "created": 0,
            "model": MODEL,
            "system_fingerprint": "fp_1",
            "choices": [choice],
            "usage": {"prompt_tokens": 100, "completion_tokens": 5, "total_tokens": 105},
            **changed,
        }

    def answer(self, word: str, sure: float | None = 0.8) -> None:
        """A good answer, with the probabilities of its tokens."""
        self.reply(f'{{"answer": "{word}"}}', logprobs=None if sure is None else tokens(word, sure))

    def honest(self) -> None:
        self.answer(self.said.honest())

    def drip(self, data: bytes) -> None:
        """Send one byte now and then, for as long as anybody listens."""
        for byte in data:
            self.write(bytes([byte]))
            time.sleep(0.05)

    def endless(self) -> None:
        """Send 64 kB, and again, until nobody listens."""
        block = f"{65_536:x}\r\n".encode() + b" " * 65_536 + b"\r\n"
        for _ in range(2_000):
            self.write(block)

    def reset(self) -> None:
        """Break the connection off, as a crashed server does."""
        self.handler.connection.setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )
        self.handler.connection.close()


def tokens(word: str, sure: float) -> dict[str, Any]:
    """Log probabilities: the word with a chance, the other answers share what is left."""
    others = [each for each in ("A", "B", "tie") if each != word]
    chances = {word: sure, **dict.fromkeys(others, (1 - sure) / 2)}
    listed = [{"token": each, "logprob": float(np.log(p))} for each, p in chances.items()]
    pieces = [{"token": piece, "logprob": 0.0, "top_logprobs": []} for piece in START]
    chosen = {"token": word, "logprob": float(np.log(sure)), "top_logprobs": listed}
    return {"content": [*pieces, chosen, {"token": '"}', "logprob": 0.0, "top_logprobs": []}]}


# Twenty megabytes of nothing in less than a tenth of one.
BOMB = gzip.compress(b" " * 20_000_000, compresslevel=1)
START = ('{"', "answer", '":', ' "')
Behaviour = Callable[[Turn], None]


@dataclass
class Stub:
    """The server; use it in a `with` block."""

    behave: Behaviour = Turn.honest
    requests: Counter = field(default_factory=Counter)
    heard: list[Said] = field(default_factory=list)
    served: list[int] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> "Stub":
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: Any) -> None:
                return

            def do_GET(self) -> None:
                stub.keys.append(f"GET {self.path}")
                self.send_error(404)

            def do_POST(self) -> None:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16_384)
                said = _said(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                with stub.lock:
                    stub.requests[said.key] += 1
                    stub.heard.append(said)
                    stub.keys.append(self.headers.get("Authorization", ""))
                    stub.headers.append(dict(self.headers))
                    turn = Turn(stub, self, said, len(stub.heard))
                # Nobody may listen any more.
                with suppress(OSError):
                    stub.behave(turn)
                with stub.lock:
                    stub.served.append(turn.served)

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False
            request_queue_size = 64

            def handle_error(self, *_: Any) -> None:
                return

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        )
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"


def _said(body: dict[str, Any]) -> Said:
    """Read a request as a model does: instruction, data, pictures, question."""
    system, user = body["messages"]
    texts = [part["text"] for part in user["content"] if part["type"] == "text"]
    urls = [p["image_url"]["url"] for p in user["content"] if p["type"] == "image_url"]
    first, second = (np.asarray(Image.open(io.BytesIO(_bytes(url)))) for url in urls)
    quoted = re.search(r"CAPTION-(\w+)\n(.*)\nEND-\1$", texts[0])
    assert quoted is not None, texts[0]
    return Said(json.loads(quoted[2]), (first, second), system["content"], texts[-1], body)


def _bytes(url: str) -> bytes:
    head, _, data = url.partition(",")
    assert head == "data:image/png;base64"
    return base64.b64decode(data, validate=True)


def first_times(count: int, bad: Behaviour) -> Behaviour:
    """Misbehave a few times, then answer."""
    return lambda turn: bad(turn) if turn.number <= count else turn.honest()


def _slow_head(turn: Turn) -> None:
    turn.write(b"HTTP/1.1 200 OK\r\n")
    turn.drip(b"X-Slow: " + b"a" * 400)


def _slow_body(turn: Turn) -> None:
    turn.head(Content_Type="application/json", Content_Length="400")
    turn.drip(b" " * 400)


def _cut_body(turn: Turn) -> None:
    turn.head(Content_Type="application/json", Content_Length="4000")
    turn.write(b'{"id": "x", "choices": [{"mess')


def _fifty_megabytes(turn: Turn) -> None:
    turn.head(Content_Type="application/json", Content_Length=str(50_000_000))
    turn.write(b" " * 50_000_000)


def _endless(turn: Turn, status: int = 200) -> None:
    turn.head(status, Content_Type="application/json", Transfer_Encoding="chunked")
    turn.endless()


def _bomb(turn: Turn) -> None:
    turn.whole(BOMB, Content_Encoding="gzip")


def _redirect(where: str) -> Behaviour:
    return lambda turn: turn.whole(
        "", 307, Location=where or f"{turn.stub.url}/chat/completions", Content_Length="0"
    )


def _content(content: Any, **changed: Any) -> Behaviour:
    return lambda turn: turn.reply(content, **changed)


def _status(status: int, body: str = '{"error": {"message": "no"}}', **headers: str) -> Behaviour:
    return lambda turn: turn.whole(body, status, **headers)


def _raw(change: Callable[[str], str]) -> Behaviour:
    """An honest answer whose text is changed on its way."""
    return lambda turn: turn.whole(
        change(json.dumps(turn.completion('{"answer": "A"}', logprobs=tokens("A", 0.8))))
    )


def _odd_tokens(change: Callable[[dict[str, Any]], Any]) -> Behaviour:
    """An answer whose log probabilities are changed."""
    return lambda turn: turn.reply('{"answer": "A"}', logprobs=change(tokens("A", 0.8)))


def _chosen(**changed: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def change(logprobs: dict[str, Any]) -> dict[str, Any]:
        logprobs["content"][4] |= changed
        return logprobs

    return change


def _unlike(logprobs: dict[str, Any]) -> dict[str, Any]:
    """The other answer was more probable, they say."""
    listed = [{"token": "A", "logprob": -3.0}, {"token": "B", "logprob": -0.1}]
    return _chosen(top_logprobs=listed, logprob=-3.0)(logprobs)


def _two_choices(turn: Turn) -> None:
    made = turn.completion('{"answer": "A"}')
    made["choices"].append({**made["choices"][0], "index": 1})
    turn.whole(json.dumps(made))


def _wrong_types(turn: Turn) -> None:
    turn.whole(json.dumps({"model": 7, "choices": {"0": "A"}, "usage": "many"}))


def _sleep(turn: Turn) -> None:
    time.sleep(1.5)
    turn.honest()


def _many(turn: Turn) -> None:
    """Said in small letters with much room, as some models do, after a time."""
    turn.reply(f'\n {{ "answer" : " {turn.said.honest().lower()} " }} \n')


def _later(model: str) -> Behaviour:
    """The first answer is by the right model, the next by another."""
    return lambda turn: turn.reply('{"answer": "A"}', model=MODEL if turn.number == 1 else model)


CALL = [{"id": "1", "type": "function", "function": {"name": "choose", "arguments": '{"a": 1}'}}]

# Name → what the server does, and what must come of it: a label (the brighter picture is the
# question's first in these tests), or the reason why there is none.
BEHAVIOURS: dict[str, tuple[Behaviour, float | str]] = {
    "honest": (Turn.honest, 0.85),
    "time-out": (_sleep, "time-out"),
    "slow head": (_slow_head, "time-out"),
    "slow body": (_slow_body, "time-out"),
    "429 with Retry-After, then fine": (first_times(2, _status(429, Retry_After="0.01")), 0.85),
    "429 without Retry-After": (_status(429), "rate-limited"),
    "429 for an hour": (_status(429, Retry_After="3600"), "rate-limited"),
    "429 until a date": (
        _status(429, Retry_After="Fri, 31 Dec 2100 23:59:59 GMT"),
        "rate-limited",
    ),
    "500": (_status(500), "server-error"),
    "502 as a page": (_status(502, "<html>bad</html>", Content_Type="text/html"), "server-error"),
    "503, then fine": (first_times(2, _status(503)), 0.85),
    "400": (_status(400), "refused-request"),
    "connection reset": (Turn.reset, "connection"),
    "connection reset, then fine": (first_times(1, Turn.reset), 0.85),
    "closed without a word": (lambda turn: None, "connection"),
    "cut JSON": (_raw(lambda text: text[: len(text) // 2]), "malformed"),
    "cut body": (_cut_body, "connection"),
    "50 MB": (_fifty_megabytes, "too-large"),
    "endless body": (_endless, "too-large"),
    "endless error": (lambda turn: _endless(turn, 500), "server-error"),
    "compressed bomb": (_bomb, "not-json"),
    "redirect to a private address": (_redirect("http://10.0.0.1/v1"), "redirect"),
    "redirect to metadata": (_redirect("http://169.254.169.254/latest"), "redirect"),
    "redirect loop": (_redirect(""), "redirect"),
    "wrong content type": (lambda t: t.whole("{}", Content_Type="text/plain"), "not-json"),
    "a page": (lambda t: t.whole("<html>hi</html>", Content_Type="text/html"), "not-json"),
    "no bytes": (lambda turn: turn.whole(b""), "malformed"),
    "not UTF-8": (lambda turn: turn.whole(b'{"a": "\xff"}'), "malformed"),
    "nested": (lambda turn: turn.whole("[" * 100_000), "malformed"),
    "wrong types": (_wrong_types, "malformed"),
    "missing choices": (lambda t: t.whole(json.dumps({"model": MODEL})), "malformed"),
    "no choices": (_content(None, choices=[]), "malformed"),
    "NaN in the reply": (_raw(lambda t: t.replace("100,", "NaN,")), "malformed"),
    "infinity in the reply": (_raw(lambda t: t.replace("100,", "1e999,")), "malformed"),
    "repeated keys in the reply": (
        _raw(lambda t: t.replace('"id"', '"model": "stub-vl", "id"')),
        "malformed",
    ),
    "NaN as the answer": (_content('{"answer": NaN}'), "junk"),
    "a number as the answer": (_content('{"answer": 1}'), "junk"),
    "null as the answer": (_content('{"answer": null}'), "junk"),
    "a list as the answer": (_content('{"answer": ["A", "B"]}'), "junk"),
    "parts as content": (_content([{"type": "text", "text": '{"answer": "A"}'}]), "junk"),
    "outside the list": (_content('{"answer": "C"}'), "junk"),
    "words around it": (_content('Sure! {"answer": "A"}'), "junk"),
    "two objects": (_content('{"answer": "A"} {"answer": "B"}'), "junk"),
    "more keys": (_content('{"answer": "A", "also": "B"}'), "junk"),
    "repeated keys": (_content('{"answer": "A", "answer": "B"}'), "junk"),
    "backward text": (_content('{"answer": "\u202eA"}'), "junk"),
    "wide letter": (_content('{"answer": "Ａ"}'), "junk"),
    "Cyrillic letter": (_content('{"answer": "А"}'), "junk"),
    "half a character": (_content('{"answer": "\\ud800"}'), "junk"),
    "refusal in prose": (_content("I am sorry, but I cannot compare people."), "junk"),
    "two answers": (_two_choices, "two-answers"),
    "empty content": (_content("  \n"), "no-answer"),
    "null content": (_content(None), "no-answer"),
    "refusal": (_content(None, message={"refusal": "I will not."}), "refused"),
    "filtered": (_content('{"answer": "A"}', finish="content_filter"), "refused"),
    "tool call": (_content(None, message={"tool_calls": CALL}, finish="tool_calls"), "tool-call"),
    "cut by length": (_content('{"answer": "A"}', finish="length"), "unfinished"),
    "huge reason": (
        _content(json.dumps({"answer": "A", "reason": "because " * 10_000})),
        "too-long",
    ),
    "another model later": (_later("other-vl"), "model-changed"),
    "a larger sister later": (_later(f"{MODEL}-mini"), "model-changed"),
    "a dated one later": (_later(f"{MODEL}-20261101"), "model-changed"),
    "always first": (lambda turn: turn.answer("A"), "contradiction"),
    "always second": (lambda turn: turn.answer("B"), "contradiction"),
    "tokens of another text": (
        _odd_tokens(lambda t: {"content": [*t["content"][:3]]}),
        "inconsistent",
    ),
    "tokens of wrong types": (_odd_tokens(lambda t: "A"), "inconsistent"),
    "another answer more probable": (_odd_tokens(_unlike), "inconsistent"),
    "a probability above one": (_odd_tokens(_chosen(logprob=2.0)), "inconsistent"),
    "a probability that is a word": (_odd_tokens(_chosen(logprob="high")), "inconsistent"),
    "without log probabilities": (lambda turn: turn.answer(turn.said.honest(), None), 1.0),
    "small letters and room": (_many, 1.0),
}
