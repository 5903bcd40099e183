"""Opening a stranger's folder with transformers: in silence, with one error for what is wrong."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from palate.core.files import read_json
from palate.core.problems import DataError, Problem, WeightsError


@contextmanager
def quietly(folder: Path, kind: str) -> Iterator[None]:
    """Inside, transformers is silent, and what it dislikes becomes one error about the folder.

    Args:
        folder: What is opened.
        kind: What it should hold, such as "CLIP model".

    Raises:
        WeightsError: for whatever goes wrong inside.
    """
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    # A stranger's folder in a library's hands: it dislikes bad ones in many ways.
    except Exception as error:
        raise unusable(folder, str(error).strip() or type(error).__name__, kind) from error
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def mapping(path: Path, kind: str) -> Mapping[str, Any]:
    """What a JSON file of the folder says; nothing where it holds no names.

    Raises:
        WeightsError: when it cannot be read.
    """
    try:
        value = read_json(path)
    except DataError as error:
        raise unusable(path.parent, error.got, kind) from error
    return value if isinstance(value, dict) else {}


def unusable(folder: Path, reason: str, kind: str) -> Problem:
    """The refusal of a folder."""
    return WeightsError(
        got=f"{folder}: {reason.splitlines()[0][:300]}",
        need=f"weights and settings of a whole {kind} that fit each other",
        fix="Copy or download the folder again.",
    )
