"""Reading JSON that strangers wrote: bounded, and never more than a typed refusal."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, cast

from palate.core.problems import DataError
from palate.data.sources.draft import Fault

MAX_LINE: Final = 1_000_000
MAX_FILE: Final = 2 * 1024**3


def parse(text: str | bytes) -> Any:
    """A JSON value.

    Raises:
        ValueError: when it is not JSON, or is nested beyond reason.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def read_list(path: Path) -> list[Any]:
    """The records of a file that holds one JSON list.

    Raises:
        DataError: when the file is missing, cut, too large, or holds something else.
    """
    try:
        size = path.stat().st_size
        if size > MAX_FILE:
            raise ValueError(f"{size} bytes; the limit is {MAX_FILE}")
        value = parse(path.read_bytes())
        if not isinstance(value, list):
            raise ValueError(f"it holds a {type(value).__name__}, not a list")
    except (OSError, ValueError) as error:
        raise DataError(
            got=f"{path.name}: {error}",
            need="a whole JSON file that holds a list of records",
            fix="Fetch or copy it again, and check that it is the right file.",
        ) from error
    return cast(list[Any], value)


def read_lines(path: Path, name: str) -> Iterator[tuple[str, dict[str, Any]] | Fault]:
    """The records of a JSON-lines file with their origins, and a fault for each bad line."""
    with path.open("rb") as file:
        number = 0
        while line := file.readline(MAX_LINE + 1):
            number += 1
            origin = f"{name}:{path.name}#line {number}"
            if len(line) > MAX_LINE:
                while line and not line.endswith(b"\n"):
                    line = file.readline(MAX_LINE)
                yield Fault(reason="line-too-long", origin=origin)
                continue
            if line.strip():
                yield _record(line, origin)


def _record(line: bytes, origin: str) -> tuple[str, dict[str, Any]] | Fault:
    try:
        value = parse(line)
    except ValueError as error:
        return Fault(reason="not-json", origin=origin, detail=str(error)[:80])
    if not isinstance(value, dict):
        return Fault(reason="wrong-type", origin=origin, detail=f"a {type(value).__name__}")
    return origin, cast(dict[str, Any], value)


def existing(path: str | Path, need: str) -> Path:
    """A path that exists.

    Raises:
        DataError: when it does not.
    """
    found = Path(path)
    if not found.exists():
        raise DataError(got=f"{path}, which does not exist", need=need, fix="Check the path.")
    return found
