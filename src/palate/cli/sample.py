"""`palate sample`: pictures of a model, for everybody or for somebody."""

from pathlib import Path
from typing import Annotated, Any

import numpy as np
from cyclopts import Parameter
from jaxtyping import UInt8
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from palate.backbones import Backbone
from palate.backbones.sample import sample as draw
from palate.backbones.sample import starting_noise
from palate.cli.app import examples, new_app
from palate.cli.console import Bar, say
from palate.cli.named import Drawing, Opposition, trained
from palate.cli.persona import For, Persona, Slide, Sliding, labels
from palate.cli.pictures import grid, strip
from palate.core.files import digest_bytes, new_folder, write_json
from palate.core.problems import require
from palate.core.record import provenance
from palate.train.prompts import prompts_of

Drawn = Annotated[Drawing, Parameter(name="*")]
Against = Annotated[Opposition, Parameter(name="*")]
_AS_USUAL, _NOTHING, _NOBODY, _STAY = Drawing(), Opposition(), Persona(), Slide()

sample = new_app(
    "sample",
    "Draw pictures from a model.",
    examples(
        """
        palate sample "a large red circle on the left of a white background" \\
            --out pictures
        palate sample --weights runs/first --prompts world:held-out:12 --out after
        palate sample --negative runs/npo --prompts world:held-out:12 --out away
        palate sample --weights runs/ppd --user their-pairs \\
            --prompts prompts.txt --out theirs
        palate sample --weights runs/ppd --user anna.safetensors \\
            --slide-to ben.safetensors --prompts prompts.txt --out slide
        palate sample --model ~/models/stable-diffusion-v1-5 --prompts prompts.txt \\
            --steps 30 --guidance 7.5 --device cuda --out sd15
        """
    ),
)


@sample.default
def draw_pictures(
    *texts: str,
    out: Path,
    model: str | None = None,
    weights: Path | None = None,
    prompts: str | None = None,
    each: int = 1,
    drawing: Drawn = _AS_USUAL,
    against: Against = _NOTHING,
    persona: For = _NOBODY,
    slide: Sliding = _STAY,
) -> None:
    """Draw pictures from a model.

    Writes a PNG for every picture, grid.png with all of them, and pictures.json
    with everything needed to draw them again. The same seed and prompt start
    from the same noise for any model, and for anybody. With --slide-to there is
    a strip.png instead of the grid: a row for each prompt, a column for each step.

    Args:
        texts: Prompts, each in quotes.
        out: The new folder for the pictures.
        model: A folder in diffusers' format, a Hub name, or `shipped`.
        weights: A run, or what it exported, to put on the model.
        prompts: A file with one prompt a line, or world:held-out:COUNT.
        each: Pictures per prompt.
        drawing: How to draw.
        against: What is guided away from.
        persona: Whom to draw for.
        slide: From whom to whom.
    """
    wanted = [*texts, *(prompts_of(prompts)[0] if prompts else [])]
    require(
        bool(wanted) and each >= 1,
        got="no prompt" if not wanted else f"--each {each}",
        need="at least one prompt, and one picture of each",
        fix="Write one in quotes, or add --prompts FILE.",
    )
    base, result = trained(weights, model) if weights else (against.base(model), None)
    backbone = against.open(drawing, base, result)
    audience = persona.meet(backbone, result, drawing, against)
    end, voices = slide.voices(audience, result)
    names = [(prompt, index) for prompt in wanted for index in range(each)]
    drawn = [pictures.numpy() for pictures in _drawn(voices, names, drawing)]
    facts = {
        "model": {"name": base, "weights": result, "digests": dict(backbone.digests)},
        "negative": against.facts(),
        "user": audience.facts(),
        "slide_to": None if end is None else end.facts(),
        "drawing": {
            "seed": drawing.seed,
            "steps": drawing.steps,
            "guidance": drawing.guidance,
            "scheduler": drawing.scheduler,
            "size": drawn[0].shape[1],
            "precision": drawing.precision,
        },
        "provenance": provenance(),
    }
    shares = [share for share, _ in voices]
    columns = None if end is None or audience.who is None else labels(shares, audience.who, end)
    together = _write(out, drawn, names, shares, columns, facts)
    say(f"{len(names) * len(voices)} pictures in {out}, all of them in {out / together}")


def _drawn(
    voices: list[tuple[float, Backbone]], names: list[tuple[str, int]], drawing: Drawing
) -> list[UInt8[Tensor, " n h w 3"]]:
    """For each voice the pictures of all names, from the same noise."""
    size = None if drawing.size is None else (drawing.size, drawing.size)
    noise = starting_noise(voices[0][1], names, drawing.seed, size)
    prompts, drawn = [prompt for prompt, _ in names], list[Tensor]()
    with Bar("pictures") as bar:
        for _, voice in voices:

            def told(done: int, total: int) -> None:
                bar.at(len(drawn) * total + done, len(voices) * total)

            drawn.append(draw(voice, prompts, noise, drawing.sampler, 32, told))
    return drawn


def _write(
    out: Path,
    drawn: list[NDArray[np.uint8]],
    names: list[tuple[str, int]],
    shares: list[float],
    columns: list[str] | None,
    facts: dict[str, Any],
) -> str:
    """The pictures, one with all of them, and what they are, in a folder that appears whole.

    Args:
        out: The folder.
        drawn: For each share of the end, the pictures of all names, uint8 [n, h, w, 3].
        names: Prompt and number of each picture.
        shares: How much of the end each is drawn for.
        columns: What stands above the columns of a strip; None for a grid.
        facts: What is written beside the pictures.

    Returns:
        The name of the picture of all of them.
    """
    with new_folder(out) as folder:
        rows: list[dict[str, Any]] = []
        for at, (prompt, index) in enumerate(names):
            for share, pictures in zip(shares, drawn, strict=True):
                name, picture = f"{len(rows):04d}.png", pictures[at]
                Image.fromarray(picture).save(folder / name)
                digest = digest_bytes(picture.tobytes())
                row = {"file": name, "prompt": prompt, "index": index, "sha256_rgb": digest}
                rows.append(row if columns is None else {**row, "share": share})
        captions = [prompt for prompt, _ in names]
        if columns is None:
            together = "grid.png"
            page = grid(list(drawn[0]), captions, columns=min(6, len(names)))
        else:
            together = "strip.png"
            page = strip(list(zip(*drawn, strict=True)), captions, columns)
        page.save(folder / together)
        write_json(folder / "pictures.json", {"pictures": rows, **facts})
    return together
