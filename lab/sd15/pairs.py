"""Eight 512×512 pairs as winner/loser lines, to time a step at the real Stable Diffusion shape.

`python lab/sd15/pairs.py FOLDER` writes FOLDER/pairs.jsonl and its pictures: scenes of the small world,
enlarged; the winner is drawn as its caption says, the loser faded.
"""

import json
import sys
from pathlib import Path

from PIL import Image

from palate.core.streams import Streams
from palate.world import PERFECT, Scene, Style, prompts, render


def main(folder: Path, count: int = 8) -> None:
    """Write `count` pairs."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for number, caption in enumerate(prompts("train", count, 0)):
        row = {"prompt": caption, "judge": "script"}
        for side, style in {"chosen": PERFECT, "rejected": Style(vividness=0.4)}.items():
            pixels = render(Scene.parse(caption), style, Streams(0)("pair", number))
            row[side] = f"{side}-{number}.png"
            Image.fromarray(pixels).resize((512, 512), Image.Resampling.BICUBIC).save(
                folder / row[side]
            )
        lines.append(json.dumps(row))
    (folder / "pairs.jsonl").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
