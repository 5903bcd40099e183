"""The address of a server, checked before anything is sent there.

Read next: `server.py`, which asks there.
"""

from ipaddress import ip_address
from typing import Final
from urllib.parse import SplitResult, urlsplit

from palate.core.problems import require

_NEAR: Final = (".localhost", ".local", ".internal", ".lan", ".home.arpa")


def plain_url(url: str) -> str:
    """An address of a server, checked.

    Raises:
        SettingError: when it is no web address, or holds a password, a query or a fragment.
    """
    need = "an address such as http://localhost:8000/v1"
    text = url.strip()
    parts = _parts(text)
    secret = parts is not None and bool(parts.username or parts.password)
    shown = "an address with a password" if secret else f"url={url!r}"
    require(
        parts is not None,
        got=shown,
        need=f"{need}, with a port of 1 to 65535 if any",
        fix="Check the host and the port.",
    )
    assert parts is not None
    require(
        parts.scheme in {"http", "https"},
        got=shown,
        need=need,
        fix="Begin it with http:// or https://, the only ways in which a server is asked.",
    )
    require(bool(parts.hostname), got=shown, need=need, fix="Name the host after //.")
    require(
        not secret,
        got=shown,
        need=f"{need}, without name and password",
        fix="Put a key into the environment instead; see docs/vision-labels.md.",
    )
    require(
        not (parts.query or parts.fragment),
        got=shown,
        need=f"{need}, without ? and #",
        fix="Leave out what stands there; a key belongs into the environment.",
    )
    return text.rstrip("/")


def plain_key(key: str | None) -> str | None:
    """A key without the white space around it; None where nothing is left.

    Raises:
        SettingError: when it could not stand in a request. The message does not hold it.
    """
    bare = (key or "").strip()
    require(
        all("!" <= letter <= "~" for letter in bare),
        got="a key with spaces or with letters outside ASCII (it is not shown)",
        need="the key as the server's operator gave it",
        fix="Copy it once more.",
    )
    return bare or None


def check_key_stays_secret(url: str, key: str | None, *, in_plain: bool) -> None:
    """Refuse to send a key, readable by everybody on the way, across a public network.

    Args:
        url: As `plain_url` gives it.
        key: What would be sent, or None.
        in_plain: Whether it may.

    Raises:
        SettingError: when it may not, and would.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    require(
        not key or in_plain or parts.scheme == "https" or _is_near(host),
        got=f"a key for {host} and an address that begins with http://",
        need="https, or a server on this machine or in its own network, for nobody encrypts http",
        fix="Write https://, or take a tunnel: ssh -L 8000:localhost:8000 HOST. Where the way is "
        "safe all the same: EndpointLabeler.open(…, key_in_plain=True).",
    )


def _parts(text: str) -> SplitResult | None:
    """The parts of an address, or None where it cannot be taken apart."""
    try:
        parts = urlsplit(text)
        return None if parts.port == 0 else parts
    except ValueError:
        return None


def _is_near(host: str) -> bool:
    """Whether a name means this machine or its own network. Nothing is looked up."""
    try:
        return not ip_address(host).is_global
    except ValueError:
        return "." not in host or host.endswith(_NEAR)
