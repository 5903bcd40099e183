"""`palate doctor`: a list of ticks, and for each failure the one thing that fixes it."""

from dataclasses import asdict
from pathlib import Path

from palate.cli.app import Flag, examples, new_app
from palate.cli.console import emit, say

doctor = new_app(
    "doctor",
    "Check this machine and a model before any work is lost.",
    examples(
        """
        palate doctor
        palate doctor --model ~/models/stable-diffusion-v1-5
        palate doctor --json
        """
    ),
)
_MARKS = {"ok": "✓", "failed": "✗", "skipped": "–"}


@doctor.default
def examine(*, model: str = "shipped", folder: Path = Path("runs"), json: Flag = False) -> int:
    """Check this machine and a model before any work is lost.

    Versions, disk, memory, whole and finite weights, and one forward and
    backward pass in full precision. Leaves with 0 when all is well, otherwise
    with the code of the first failure.

    Args:
        model: The model to try: a folder, a Hub name, or `shipped`.
        folder: Where runs will be written.
        json: Print a JSON list and nothing else.
    """
    from palate.recipes.preflight import preflight

    ticks = preflight(model, folder)
    code = next((tick.exit_code for tick in ticks if tick.status == "failed"), 0)
    if json:
        emit([asdict(tick) for tick in ticks])
        return code
    for tick in ticks:
        say(f"{_MARKS[tick.status]} {tick.name}: {tick.detail}")
        if tick.fix:
            say(f"    → {tick.fix}")
    failed = sum(tick.status == "failed" for tick in ticks)
    say()
    say("All is well." if not failed else f"{failed} of {len(ticks)} checks failed.")
    return code
