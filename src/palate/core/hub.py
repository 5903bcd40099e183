"""From what a user calls a model or data set to a folder on this machine.

A folder is used as it is and no network is asked. A Hub id (`owner/name`, or `owner/name@revision`)
is fetched by the Hub's own client, only the files asked for, and never one that can run code.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from palate.core.problems import WeightsError

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[\w./-]+)?")


def fetch(
    name: str | Path,
    *,
    files: Sequence[str],
    without: Sequence[str] = (),
    kind: Literal["model", "dataset"] = "model",
) -> Path:
    """The folder a name stands for, fetched from the Hub when it is not a folder here.

    Args:
        name: A folder, or a Hub id, with or without a revision.
        files: Patterns of the files wanted from the Hub. Not applied to a folder.
        without: Patterns of files not wanted although they match.
        kind: What the id names on the Hub.

    Raises:
        WeightsError: when there is no such folder, or the Hub does not give it.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    text = str(name)
    if folder.exists() or not HUB_ID.fullmatch(text):
        raise WeightsError(
            got=f"{text}, which is not a folder",
            need=f"a {kind} folder, or a Hub id such as owner/name",
            fix="Check the path for a typing mistake.",
        )
    from huggingface_hub import snapshot_download

    identity, _, revision = text.partition("@")
    try:
        found = snapshot_download(
            identity,
            revision=revision or None,
            repo_type=kind,
            allow_patterns=list(files),
            ignore_patterns=list(without),
        )
    # The Hub's client reports refusals as OSError (HTTP, network, cache) and ValueError (names).
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise WeightsError(
            got=f"no answer for {text} from the Hub ({reason[:200]})",
            need="a folder here, or a Hub id that can be reached",
            fix="Check the name and the network, or download the folder and give its path.",
        ) from error
    return Path(found)
