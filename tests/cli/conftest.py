"""A small model, a few pairs, and the command line called in this process."""

import io
import json
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from palate.cli.main import main


@dataclass(frozen=True)
class Answer:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON value on stdout."""
        return json.loads(self.out)


@pytest.fixture(scope="session")
def palate() -> Callable[..., Answer]:
    """Run a command as `palate` would, without a new process."""

    def run(*words: object) -> Answer:
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            try:
                code = main([str(word) for word in words])
            except SystemExit as leaving:
                code = int(leaving.code or 0)
        return Answer(code, out.getvalue(), err.getvalue())

    return run


@pytest.fixture(scope="session")
def micro(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline folder of the real classes, small and untrained."""
    from palate.backbones.tiny import build
    from palate.world import prompts

    folder = tmp_path_factory.mktemp("model") / "micro"
    pipeline = build(prompts("train", 40, 0), size="micro")
    pipeline.save_pretrained(folder, safe_serialization=True)
    return folder


@pytest.fixture(scope="session")
def parquet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty pairs of the small world in Pick-a-Pic's schema: 20 with a winner, 10 ties."""
    from palate.data.sources import export_pickapic, jpeg
    from palate.world import training_pictures

    pictures, captions = training_pictures(60, 3)
    rows = [
        {
            "caption": captions[2 * row],
            "jpg_0": jpeg(pictures[2 * row]),
            "jpg_1": jpeg(pictures[2 * row + 1]),
            "label_0": (1.0, 0.0, 0.5)[row % 3],
            "user_id": row % 4,
        }
        for row in range(30)
    ]
    path = tmp_path_factory.mktemp("pairs") / "pairs.parquet"
    export_pickapic(rows, path)
    return path


@pytest.fixture(scope="session")
def snapshot(palate, parquet: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same pairs, imported and frozen by the command."""
    folder = tmp_path_factory.mktemp("data")
    frozen = folder / "frozen"
    answer = palate("data", "import", parquet, "--store", folder / "store", "--freeze", frozen)
    assert answer.code == 0, answer.err
    return frozen
