"""One chat server, asked with bounds on everything it can do: time, bytes, retries, redirects.

A server is trusted with nothing but an answer. No redirect is followed, so that it cannot make
this machine call another; a body is read up to 256 kB and no further, also the body of an error;
compressed bodies are not asked for and not read; a request as a whole, however slowly it drips,
ends with its time-out. What may pass (too many requests, an error of the server, a broken
connection) is tried again a few times; what will not is said at once.

Read next: `endpoint.py`, which asks it about pictures.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final, final
from urllib.parse import urlsplit

from palate.core.problems import MissingExtra, SettingError, require
from palate.label.reply import NoReply

LARGEST_BODY: Final = 262_144
_CHUNK: Final = 16_384
_SAID: Final = 2_000
_LONGEST_PAUSE: Final = 8.0
# These say that no request of this kind will ever be answered.
_HOPELESS: Final = {401, 403, 404, 405}
_PASSING: Final = {408, 425, 429}


class _Refused(Exception):  # noqa: N818 - what the server said before its body was read
    """A status that is no success, or a body that will not be read."""

    def __init__(self, status: int, reason: str, detail: str, after: float | None = None) -> None:
        self.status, self.reason, self.detail, self.after = status, reason, detail, after
        super().__init__(f"{status} {reason} {detail}")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How long and how often a server is asked.

    Attributes:
        timeout: Seconds for one request as a whole.
        retries: How often a request is made again.
        pause: Seconds before the first retry; doubled each time.
        patience: The longest wait that a server may ask for, in seconds.
    """

    timeout: float = 60.0
    retries: int = 3
    pause: float = 0.5
    patience: float = 60.0

    def __post_init__(self) -> None:
        require(
            self.timeout > 0 and self.retries >= 0 and self.pause >= 0 and self.patience >= 0,
            got=f"timeout={self.timeout}, retries={self.retries}, pause={self.pause}, "
            f"patience={self.patience}",
            need="a timeout above 0, and nothing below 0",
            fix="Leave them out for 60 seconds and three retries.",
        )


@final
class Server:
    """An OpenAI-compatible server at one address. Use it inside one event loop, and close it.

    Args:
        url: As `plain_url` gives it.
        key: Sent to this address and to nobody else; never recorded.
        bounds: How long and how often it is asked.
        retried: Called once for every retry.

    Raises:
        MissingExtra: without the client.
    """

    def __init__(
        self, *, url: str, key: str | None, bounds: Bounds, retried: Callable[[], None]
    ) -> None:
        openai = client_package()
        self._url, self._key, self._bounds, self._retried = url, key, bounds, retried
        # Our own clock ends a request; the client's is only there if that should fail.
        slack = 2 * bounds.timeout
        self._client = openai.AsyncOpenAI(
            base_url=url,
            api_key=key or "none",
            max_retries=0,
            timeout=slack,
            default_headers={"Accept-Encoding": "identity"},
            http_client=openai.DefaultAsyncHttpxClient(
                follow_redirects=False, timeout=slack, event_hooks={"response": [_guard]}
            ),
        )
        # Names of accounts are read from the environment, and are none of this server's business.
        self._client.organization = self._client.project = None

    async def close(self) -> None:
        """Let go of the connections."""
        await self._client.close()

    async def body(self, request: Mapping[str, Any]) -> bytes:
        """The body that answers a chat request, after as many retries as the bounds allow.

        Raises:
            NoReply: with the reason of the last attempt.
            SettingError: when the address, the key or the model cannot be right.
        """
        pause = self._bounds.pause
        for left in range(self._bounds.retries, -1, -1):
            try:
                return await self._once(request)
            except _Refused as refusal:
                error = refusal
            self._hopeless(error)
            wait = pause if error.after is None else error.after
            passing = error.status in _PASSING or error.status >= 500 or error.status == 0
            if not left or not passing or wait > self._bounds.patience:
                raise NoReply(error.reason, self._clean(error.detail))
            self._retried()
            await asyncio.sleep(wait)
            pause = min(2 * pause, _LONGEST_PAUSE)
        raise AssertionError("the loop above returns or raises")

    async def _once(self, request: Mapping[str, Any]) -> bytes:
        """One attempt; everything that can go wrong becomes a refusal. Status 0 is none at all."""
        chat = self._client.chat.completions.with_streaming_response
        body = bytearray()
        try:
            async with (
                asyncio.timeout(self._bounds.timeout),
                chat.create(**request) as response,
            ):
                async for chunk in response.iter_bytes(_CHUNK):
                    body += chunk
                    if len(body) > LARGEST_BODY:
                        raise _Refused(200, "too-large", f"more than {LARGEST_BODY} bytes")
        except TimeoutError:
            seconds = f"{self._bounds.timeout:g} seconds"
            raise _Refused(0, "time-out", f"no whole answer within {seconds}") from None
        except _Refused:
            raise
        # The client has an error of its own for each library it may stand on.
        except Exception as error:
            if isinstance(error.__cause__, _Refused):
                raise error.__cause__ from None
            why = error.__cause__ or error
            raise _Refused(0, "connection", f"{type(why).__name__}: {why}"[:_SAID]) from None
        return bytes(body)

    def _hopeless(self, error: _Refused) -> None:
        fixes = {
            401: "Give the key in the environment; see docs/vision-labels.md.",
            403: "Give a key that may use this model; see docs/vision-labels.md.",
        }
        require(
            error.status not in _HOPELESS,
            got=f"status {error.status} from {self._url} ({self._clean(error.detail)[:300]})",
            need="a server that answers chat completions for this model",
            fix=fixes.get(error.status, "Check --url (it often ends in /v1) and the model's name."),
            kind=SettingError,
        )

    def _clean(self, text: str) -> str:
        """What the server said, without the key should it repeat it."""
        return text.replace(self._key, "…") if self._key else text


def plain_url(url: str) -> str:
    """An address of a server, checked.

    Raises:
        SettingError: when it is no web address, or holds a password, a query or a fragment.
    """
    try:
        parts = urlsplit(url.strip())
        good = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        parts, good = urlsplit(""), False
    shown = "an address with a password" if parts.password or parts.username else f"url={url!r}"
    require(
        good and not (parts.username or parts.password or parts.query or parts.fragment),
        got=shown,
        need="an address such as http://localhost:8000/v1, without name, password, ? and #",
        fix="Put a key into the environment instead; see docs/vision-labels.md.",
    )
    return url.strip().rstrip("/")


def client_package() -> Any:
    """The OpenAI client.

    Raises:
        MissingExtra: when it is not installed.
    """
    try:
        import openai
    except ImportError as error:
        raise MissingExtra(
            got="no openai package",
            need="it to ask a vision model behind an endpoint",
            fix="Install it: pip install 'palate[vlm]'.",
        ) from error
    return openai


async def _guard(response: Any) -> None:
    """Look at a response's head, and let its body be read only if it can be an answer."""
    headers, status = response.headers, int(response.status_code)
    if 300 <= status < 400:
        raise _Refused(status, "redirect", f"to {headers.get('location', 'nowhere')[:200]}")
    if status != 200:
        word = "rate-limited" if status == 429 else "refused-request"
        reason = "server-error" if status >= 500 or status == 408 else word
        raise _Refused(status, reason, await _beginning(response), _wait(headers))
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise _Refused(status, "not-json", f"content of type {kind[:100] or 'none'}")
    coded = headers.get("content-encoding", "identity").strip().lower()
    if coded not in {"", "identity"}:
        raise _Refused(status, "not-json", f"content coded as {coded[:100]}")
    length = headers.get("content-length", "0")
    if not length.isdecimal() or int(length[:12]) > LARGEST_BODY:
        raise _Refused(status, "too-large", f"a length of {length[:20]} bytes")


async def _beginning(response: Any) -> str:
    """The first words of an error's body."""
    said = bytearray()
    async for chunk in response.aiter_raw(_CHUNK):
        said += chunk
        if len(said) >= _SAID:
            break
    text = said[:_SAID].decode("utf-8", "replace")
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
