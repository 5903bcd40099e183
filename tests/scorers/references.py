"""What the reference packages said (`lab/scorers/parity`), and our models with their weights."""

import json
from pathlib import Path
from typing import Any

from torch import Tensor

from palate.core.files import digest_bytes, digest_tensors, new_folder
from palate.scorers.imagereward import write_imagereward
from scorers import seeded

STORED = Path(__file__).parents[2] / "lab" / "scorers" / "parity"


def stored(scorer: str) -> dict[str, Any]:
    """One scorer's file."""
    return json.loads((STORED / f"{scorer}.json").read_text())


def checkpoint(facts: dict[str, Any]) -> dict[str, Tensor]:
    """The weights the package was given, by its own names; pictures and weights are the same."""
    made = seeded.weights(facts["shapes"])
    assert digest_tensors(made) == facts["weights"], "the generator draws other numbers here"
    seen = b"".join(picture.tobytes() for picture in seeded.pictures())
    assert digest_bytes(seen) == facts["pictures"]
    return made


def bert(folder: Path) -> Path:
    """A folder with a small BERT vocabulary, as bert-base-uncased has a large one."""
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(seeded.word_pieces()) + "\n")
    return folder


def small_imagereward(where: Path) -> Path:
    """ImageReward's folder from the weights that the reference package was given."""
    base = bert(where / "bert")
    with new_folder(where / "reward") as inside:
        write_imagereward(inside, checkpoint(stored("imagereward")), base)
    return where / "reward"
