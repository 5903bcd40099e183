"""The sizes a part's configuration gives, with diffusers' own where it does not say.

Read next: `autoencoder.py` and `patches.py`, which need them before any weight is read.
"""

import inspect
from typing import Any

from palate.backbones.folder import Part
from palate.core.problems import WeightsError, require


def sizes_of(part: Part, kind: Any, *names: str) -> dict[str, int]:
    """Some sizes of a part, one number each.

    Args:
        part: Whose configuration it is.
        kind: Its class in diffusers, which has a value for what a configuration leaves out.
        names: Of the sizes.

    Raises:
        WeightsError: when one is not a whole number above 0.
    """
    found = {name: configured(part, kind, name) for name in names}
    _require_whole(part, {name: size for name, size in found.items() if not _is_whole(size)})
    return found


def row_of(part: Part, kind: Any, name: str) -> tuple[int, ...]:
    """A size of a part that has a number for each of its levels.

    Raises:
        WeightsError: when it is not a list of whole numbers above 0.
    """
    found = configured(part, kind, name)
    whole = isinstance(found, list | tuple) and len(found) > 0 and all(map(_is_whole, found))
    _require_whole(part, {} if whole else {name: found})
    return tuple(found)


def configured(part: Part, kind: Any, name: str) -> Any:
    """What a part's configuration says, or else what diffusers takes."""
    return part.settings.get(name, inspect.signature(kind.__init__).parameters[name].default)


def _is_whole(size: Any) -> bool:
    return type(size) is int and size > 0


def _require_whole(part: Part, wrong: dict[str, Any]) -> None:
    require(
        not wrong,
        got=f"{part.folder / 'config.json'}: {wrong}",
        need="whole numbers above 0",
        fix="Correct the file, or copy or download the folder again.",
        kind=WeightsError,
    )
