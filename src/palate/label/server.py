"""One chat server, asked with bounds on everything it can do: time, bytes, retries, redirects.

A server is trusted with nothing but an answer. No redirect is followed, so that it cannot make
this machine call another; a body is read up to 256 kB and no further, also the body of an error;
compressed bodies are not asked for and not read; a request as a whole, however slowly it drips,
ends with its time-out. What may pass (too many requests, an error of the server, a broken
connection) is tried again a few times; what will not is said at once.

It is told nothing but the question and its key. The protocol is OpenAI's, their client is not used:
it sends headers, accounts and keys that it finds in the environment, which are none of this
server's business. Every header is ours, and no proxy of the environment is taken.

Read next: `guard.py`, which looks at what comes back; `endpoint.py`, which asks about pictures.
"""

import asyncio
import math
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, final

import palate
from palate.core.problems import MissingExtra, SettingError, require
from palate.label.guard import CHUNK, LARGEST_BODY, SAID, Refused, guard
from palate.label.reply import NoReply

_LONGEST_PAUSE: Final = 8.0
_MOST_RETRIES: Final = 20
# These say that no request of this kind will ever be answered.
_HOPELESS: Final = {401, 403, 404, 405}
_PASSING: Final = {408, 425, 429}
# Of what went wrong before the server heard of a request. Whatever else failed may be on a bill.
_UNREACHED: Final = {"ConnectError", "ConnectTimeout", "PoolTimeout", "UnsupportedProtocol"}


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How long and how often a server is asked.

    Attributes:
        timeout: Seconds for one request as a whole.
        retries: How often a request is made again, at most 20 times.
        pause: Seconds before the first retry; doubled each time, up to 8.
        patience: The longest wait that a server may ask for, in seconds.
    """

    timeout: float = 60.0
    retries: int = 3
    pause: float = 0.5
    patience: float = 60.0

    def __post_init__(self) -> None:
        waits = (self.timeout, self.pause, self.patience)
        require(
            self.timeout > 0 and min(waits) >= 0 and all(map(math.isfinite, waits)),
            got=f"timeout={self.timeout}, pause={self.pause}, patience={self.patience}",
            need="seconds: a timeout above 0, and nothing below 0",
            fix="Leave them out for 60, one half and 60.",
        )
        require(
            0 <= self.retries <= _MOST_RETRIES,
            got=f"retries={self.retries}",
            need=f"0 to {_MOST_RETRIES}",
            fix="Leave it out for three; what still failed is asked again by the next run.",
        )


@final
class Server:
    """An OpenAI-compatible server at one address. Use it inside one event loop, and close it.

    Args:
        url: As `plain_url` gives it.
        key: Sent to this address and to nobody else; never recorded.
        bounds: How long and how often it is asked.
        retried: Called once for every retry.
        uncounted: Called once for every request that failed though it may have to be paid for.

    Raises:
        MissingExtra: without the client.
    """

    def __init__(
        self,
        *,
        url: str,
        key: str | None,
        bounds: Bounds,
        retried: Callable[[], None],
        uncounted: Callable[[], None],
    ) -> None:
        httpx = client_package()
        self._url, self._key, self._bounds = url, key, bounds
        self._retried, self._uncounted = retried, uncounted
        self._client = httpx.AsyncClient(
            follow_redirects=False,
            # Else the key and the pictures go to whatever proxy the environment names.
            trust_env=False,
            verify=_certificates(url),
            # Our own clock ends a request; the client's is only there if that should fail.
            timeout=2 * bounds.timeout,
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=256),
            event_hooks={"request": [self._sign], "response": [guard]},
        )

    async def close(self) -> None:
        """Let go of the connections."""
        await self._client.aclose()

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
            except Refused as refusal:
                error = refusal
            except asyncio.CancelledError:
                self._uncounted()
                raise
            if error.worked:
                self._uncounted()
            self._hopeless(error)
            wait = pause if error.after is None else error.after
            passing = error.status in _PASSING or error.status >= 500 or error.status == 0
            if not left or not passing or wait > self._bounds.patience:
                raise NoReply(error.reason, self._clean(error.detail))
            self._retried()
            await asyncio.sleep(wait)
            pause = min(2 * pause, max(pause, _LONGEST_PAUSE))
        raise AssertionError("the loop above returns or raises")

    async def _once(self, request: Mapping[str, Any]) -> bytes:
        """One attempt; everything that can go wrong becomes a refusal. Status 0 is none at all."""
        body = bytearray()
        try:
            async with (
                asyncio.timeout(self._bounds.timeout),
                self._client.stream(
                    "POST", f"{self._url}/chat/completions", json=dict(request)
                ) as response,
            ):
                async for chunk in response.aiter_raw(CHUNK):
                    body += chunk
                    if len(body) > LARGEST_BODY:
                        said = f"more than {LARGEST_BODY} bytes"
                        raise Refused(200, "too-large", said, worked=True)
        except TimeoutError:
            seconds = f"{self._bounds.timeout:g} seconds"
            detail = f"no whole answer within {seconds}"
            raise Refused(0, "time-out", detail, worked=True) from None
        except Refused:
            raise
        # The client has an error of its own for each library it may stand on.
        except Exception as error:
            name = type(error).__name__
            heard, detail = name not in _UNREACHED, f"{name}: {error}"[:SAID]
            raise Refused(0, "connection", detail, worked=heard) from None
        return bytes(body)

    async def _sign(self, request: Any) -> None:
        """Leave a request no header but ours, whatever the client added."""
        kept = ("Content-Length", "Transfer-Encoding")
        length = {name: request.headers[name] for name in kept if name in request.headers}
        ours = {
            "Host": request.url.netloc.decode("ascii"),
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "Content-Type": "application/json",
            "User-Agent": f"palate/{palate.__version__}",
            **({"Authorization": f"Bearer {self._key}"} if self._key else {}),
        }
        request.headers.clear()
        request.headers.update({**ours, **length})

    def _hopeless(self, error: Refused) -> None:
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


def _certificates(url: str) -> ssl.SSLContext:
    """Whom to believe: what the system and SSL_CERT_FILE name, and what comes with the client."""
    if not url.startswith("https:"):
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    import certifi

    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context


def client_package() -> Any:
    """The client that speaks HTTP.

    Raises:
        MissingExtra: when it is not installed.
    """
    try:
        import httpx
    except ImportError as error:
        raise MissingExtra(
            got="no httpx package",
            need="it to ask a vision model behind an endpoint",
            fix="Install it: pip install 'palate[vlm]'.",
        ) from error
    return httpx
