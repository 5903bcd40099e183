"""Prompts by name: a text file, or captions of the small world.

Read next: `scoring.py`, which judges what is drawn for them.
"""

from pathlib import Path

from palate.core.problems import DataError, require
from palate.world import prompts

WORLD, HELD_OUT = "world", "held-out"
_EXAMPLE = f"{WORLD}:{HELD_OUT}:200"
# Of prompts without a held-out split of their own, the health checks take one in ten.
_SHARE_HELD_OUT = 10


def prompts_of(words: str) -> tuple[list[str], bool]:
    """Prompts, and whether they are known never to have been trained on.

    Args:
        words: A text file with one prompt a line, or `world:SPLIT:COUNT` (also with `:SEED`).

    Raises:
        DataError: when there is no such file, or no prompt in it.
        SettingError: when the world's words cannot be read.
    """
    if words.startswith(f"{WORLD}:"):
        return _of_the_world(words)
    path = Path(words).expanduser()
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            got=f"prompts {words}: {getattr(error, 'strerror', None) or error}",
            need="a text file with one prompt a line",
            fix=f"Check the path, or use the small world's: {_EXAMPLE}",
        ) from error
    found = list(dict.fromkeys(line.strip() for line in lines if line.strip()))
    require(
        bool(found),
        got=f"{path} without a prompt",
        need="one prompt a line",
        fix="Write some prompts into it.",
        kind=DataError,
    )
    return found, False


def apart(words: str, most: int) -> tuple[list[str], list[str]]:
    """Prompts to train on, and at most so many that are kept away from training.

    The small world's training prompts have a held-out split. Of any others the last tenth is
    kept away.

    Raises:
        DataError: as `prompts_of` does, and when there are fewer than two prompts.
        SettingError: as `prompts_of` does.
    """
    found, held_out = prompts_of(words)
    if words.startswith(f"{WORLD}:") and not held_out:
        return found, prompts_of(f"{WORLD}:{HELD_OUT}:{most}")[0]
    require(
        len(found) > 1,
        got=f"{len(found)} prompt in {words}",
        need="at least two prompts: one is held out for the health checks",
        fix="Add prompts.",
        kind=DataError,
    )
    first = len(found) - max(len(found) // _SHARE_HELD_OUT, 1)
    return found[:first], found[first : first + most]


def _of_the_world(words: str) -> tuple[list[str], bool]:
    parts = words.split(":")
    numbers = parts[2:]
    require(
        3 <= len(parts) <= 4 and all(number.isdecimal() for number in numbers),
        got=f"prompts {words!r}",
        need="world:SPLIT:COUNT, or world:SPLIT:COUNT:SEED",
        fix=f"Write for example {_EXAMPLE}",
    )
    seed = int(numbers[1]) if len(numbers) == 2 else 0
    return prompts(parts[1], int(numbers[0]), seed), parts[1] == HELD_OUT
