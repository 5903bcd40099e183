"""`palate demo`: the whole story once, on this machine."""

from pathlib import Path

from palate.cli.app import Flag, examples, new_app
from palate.cli.console import emit, next_steps, note, say

demo = new_app(
    "demo",
    "Align the small model with the shipped pairs, and open the result.",
    examples(
        """
        palate demo
        palate demo --out runs/my-demo
        palate demo --quick
        """
    ),
)


@demo.default
def run(*, out: Path = Path("runs/demo"), quick: Flag = False, json: Flag = False) -> None:
    """Align the small model with the shipped pairs, and open the result.

    No download and no GPU: the model (in Stable Diffusion's format) and 2,000
    noisy preference pairs come with the package. Takes about four minutes on a
    laptop.

    Args:
        out: The folder for everything it makes; the page is report.html in it.
        quick: A much smaller run, to see that everything works. Its numbers mean little.
        json: Print the result as JSON and nothing else on stdout.
    """
    from palate.recipes.demo import demo as recipe

    result = recipe(out, say=note if json else say, quick=quick)
    if json:
        emit(result)
        return
    if {"win_rate", "low", "high"} <= set(result):
        rate, low, high = (100 * float(result[name]) for name in ("win_rate", "low", "high"))
        count = f"n = {result.get('prompts')} held-out prompts"
        say(f"win rate over the base {rate:.1f} %  (95 % interval {low:.1f}-{high:.1f} %, {count})")
    say(f"page      {out / 'report.html'}")
    say(f"numbers   {out / 'result.json'}")
    next_steps(
        "palate data import --help        bring your own pairs",
        "palate train --help              train on them",
        "palate methods dpo               what was just done, and what to watch",
    )
