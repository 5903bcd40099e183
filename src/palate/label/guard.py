"""The head of a response, which decides whether its body is read at all.

Read next: `server.py`, which asks.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

LARGEST_BODY: Final = 262_144
CHUNK: Final = 16_384
SAID: Final = 2_000


class Refused(Exception):  # noqa: N818 - what the server said before its body was read
    """A status that is no success, or a body that will not be read.

    Attributes:
        after: Seconds that the server asks to wait.
        worked: Whether a model may have worked on it, which costs.
    """

    def __init__(
        self,
        status: int,
        reason: str,
        detail: str,
        *,
        after: float | None = None,
        worked: bool = False,
    ) -> None:
        self.status, self.reason, self.detail = status, reason, detail
        self.after, self.worked = after, worked
        super().__init__(f"{status} {reason} {detail}")


async def guard(response: Any) -> None:
    """Look at a response's head, and let its body be read only if it can be an answer."""
    headers, status = response.headers, int(response.status_code)
    if 300 <= status < 400:
        raise Refused(status, "redirect", f"to {headers.get('location', 'nowhere')[:200]}")
    if status != 200:
        word = "rate-limited" if status == 429 else "refused-request"
        reason = "server-error" if status >= 500 or status == 408 else word
        detail, worked = await _beginning(response), reason == "server-error"
        raise Refused(status, reason, detail, after=_wait(headers), worked=worked)
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Refused(status, "not-json", f"content of type {kind[:100] or 'none'}", worked=True)
    coded = headers.get("content-encoding", "identity").strip().lower()
    if coded not in {"", "identity"}:
        raise Refused(status, "not-json", f"content coded as {coded[:100]}", worked=True)
    length = headers.get("content-length", "0")
    if not length.isdecimal() or int(length[:12]) > LARGEST_BODY:
        raise Refused(status, "too-large", f"a length of {length[:20]} bytes", worked=True)


async def _beginning(response: Any) -> str:
    """The first words of an error's body."""
    said = bytearray()
    async for chunk in response.aiter_raw(CHUNK):
        said += chunk
        if len(said) >= SAID:
            break
    text = said[:SAID].decode("utf-8", "replace")
    return f"status {response.status_code}: {' '.join(text.split())}"


def _wait(headers: Mapping[str, str]) -> float | None:
    """Seconds that the server asks to wait, or None."""
    said = headers.get("retry-after", "").strip()
    if not said:
        return None
    try:
        seconds = float(said)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(said) - datetime.now(UTC)).total_seconds()
        except (ValueError, TypeError):
            return None
    return max(seconds, 0.0) if seconds == seconds else None
