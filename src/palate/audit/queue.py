"""A new store of pairs that are to be judged again, without the labels they had.

Read next: `apply.py`, which fills it.
"""

import os
import shutil
import uuid
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from palate.core.files import UNFINISHED, sync_folder
from palate.data.comparison import Comparison, relabelled
from palate.data.store import Store

QUEUE: Final = "-queue"


def without_label(two: Comparison, old: Path) -> Comparison:
    """The same two pictures, judged by nobody."""
    origin = f"audit of {old.name}: to be asked again"
    return relabelled(two, None, judge="nobody", source="unknown", origin=origin)


@contextmanager
def new_store(
    folder: Path | None,
    rows: Iterable[Comparison],
    image: Callable[[str], NDArray[np.uint8]],
) -> Generator[None]:
    """A store that appears under its name only when the block has ended without an error.

    Args:
        folder: Where; None makes no store.
        rows: What it holds.
        image: Digest of a picture → pixels, uint8 [height, width, 3].
    """
    if folder is None:
        yield
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f"{UNFINISHED}{uuid.uuid4().hex}-{folder.name}")
    try:
        _fill(Store(temporary), list(rows), image)
        yield
        os.replace(temporary, folder)
        sync_folder(folder.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _fill(
    store: Store, rows: Sequence[Comparison], image: Callable[[str], NDArray[np.uint8]]
) -> None:
    with store.writing():
        for name in dict.fromkeys(each.sha256 for row in rows for each in row.images):
            store.put(image(name))
        store.add(rows)
