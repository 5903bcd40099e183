"""Where parquet files come from: a file, a folder of shards, or a data set on the Hub."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

from palate.core.problems import DataError

HUB_ID: Final = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
Download = Callable[[str, str, str | None], Path]


def download(name: str, pattern: str, revision: str | None) -> Path:
    """Fetch the parquet files of a Hub data set; returns the folder they are in.

    No code from the data set is ever run: only files that match the pattern are fetched.

    Raises:
        DataError: when the data set does not exist, needs a permission, or cannot be reached.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        folder = snapshot_download(
            name, repo_type="dataset", revision=revision, allow_patterns=[pattern]
        )
    except (HfHubHTTPError, OSError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise DataError(
            got=f"the data set {name}: {reason}",
            need="a data set on the Hub that may be read, and a network",
            fix="Check the name, log in with `hf auth login`, or give a folder with a copy; the "
            "original Pick-a-Pic has been gone from the Hub since 2025.",
        ) from error
    return Path(folder)


def resolve_files(
    where: str | Path,
    *,
    pattern: str = "*.parquet",
    revision: str | None = None,
    fetch: Download = download,
) -> list[Path]:
    """The parquet files meant by a path or a Hub id, in name order.

    Raises:
        DataError: when there are none.
    """
    # An empty path would mean the folder we happen to be in.
    path = Path(where) if str(where) else Path("nothing was named")
    if path.is_file():
        return [path]
    folder = path
    if not path.is_dir():
        if not HUB_ID.fullmatch(str(where)):
            raise DataError(
                got=f"{where}, which does not exist",
                need="a parquet file, a folder of them, or a Hub id such as owner/name",
                fix="Check the path.",
            )
        folder = fetch(str(where), pattern, revision)
    files = sorted(file for file in folder.rglob("*.parquet") if file.match(pattern))
    if not files:
        raise DataError(
            got=f"{where} without files like {pattern}",
            need="at least one parquet file",
            fix="Check the path and the `files` setting.",
        )
    return files
