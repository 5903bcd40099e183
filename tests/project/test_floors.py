"""A room imports only from lower floors, and strangers' packages stay at the edges."""

import ast
import importlib
import os
import pkgutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

import palate

SOURCE = Path(palate.__file__).parent
FLOORS = {
    "core": 0,
    "objectives": 1,
    "backbones": 1,
    "data": 1,
    "scorers": 1,
    "world": 1,
    "label": 2,
    "audit": 2,
    "train": 2,
    "evaluate": 3,
    "report": 4,
    "recipes": 4,
    "cli": 5,
    "web": 5,
}
# Rooms on one floor do not know each other. One exception: a recipe ends in a report.
SAME_FLOOR = {("recipes", "report")}
# Heavy packages, and the only rooms that may import them.
EDGES = {
    "diffusers": {"backbones", "scorers"},
    "transformers": {"backbones", "scorers"},
    "peft": {"backbones", "scorers"},
    "cyclopts": {"cli"},
    "rich": {"cli"},
    "jinja2": {"report", "web"},
    "matplotlib": {"report"},
    "openai": set(),
    "httpx": {"label"},
    "crowdkit": {"data"},
    "choix": {"data"},
    "krippendorff": {"data"},
    "sklearn": {"data", "audit"},
    "pandas": {"data"},
    "torchvision": set(),
}


def room_of(module: str) -> str | None:
    """The room of a module such as `palate.train.loop`, or None for `palate` itself."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else None


def imports(tree: ast.AST, package: str = "") -> Iterator[str]:
    """Every module that a file imports, at its top or inside a function, relative ones resolved."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base]).strip(".")
            if base == "palate":
                yield from (f"palate.{alias.name}" for alias in node.names)
            else:
                yield base


def complaints(module: str, imported: Iterable[str]) -> list[str]:
    """What is wrong with the imports of one module, one sentence each."""
    room, found = room_of(module), []
    for name in imported:
        top, other = name.split(".")[0], room_of(name)
        if top in EDGES and room not in EDGES[top]:
            found.append(f"{room} imports {top}")
        if top != "palate" or other is None or room is None or room == other:
            continue
        if other not in FLOORS:
            continue
        below = FLOORS[other] < FLOORS[room] or (room, other) in SAME_FLOOR
        found += [] if below else [f"{room} imports {other}"]
    return found


def modules() -> list[tuple[str, Path]]:
    """Every module of the package with its file, found on the disk and not by importing."""
    found = []
    for path in sorted(SOURCE.rglob("*.py")):
        parts = ("palate", *path.relative_to(SOURCE).with_suffix("").parts)
        found.append((".".join(part for part in parts if part != "__init__"), path))
    return found


def package_of(module: str, path: Path) -> str:
    """What a relative import starts from."""
    return module if path.name == "__init__.py" else module.rpartition(".")[0]


def test_rooms_import_only_from_lower_floors():
    found = [
        f"{sentence} ({module})"
        for module, path in modules()
        for sentence in complaints(
            module, imports(ast.parse(path.read_text()), package_of(module, path))
        )
    ]
    assert not found, "; ".join(found)


def test_every_room_has_a_floor():
    rooms = {path.parent.name for path in SOURCE.glob("*/__init__.py")}
    assert rooms <= set(FLOORS)


@pytest.mark.parametrize(
    ("module", "line", "sentence"),
    [
        ("palate.objectives.dpo", "from palate.train import loop", "objectives imports train"),
        ("palate.objectives.dpo", "from palate import train", "objectives imports train"),
        ("palate.objectives.dpo", "import palate.train.loop", "objectives imports train"),
        ("palate.objectives.dpo", "from ..train import loop", "objectives imports train"),
        ("palate.core.path", "from palate.data import pairs", "core imports data"),
        ("palate.data.pairs", "from palate.world import scenes", "data imports world"),
        ("palate.train.loop", "def f():\n    import diffusers", "train imports diffusers"),
        ("palate.report.page", "from palate.recipes import demo", "report imports recipes"),
        ("palate.cli.main", "from palate.web import app", "cli imports web"),
        ("palate.backbones.sd", "import torchvision.transforms", "backbones imports torchvision"),
    ],
)
def test_a_forbidden_import_is_said_in_a_sentence(module, line, sentence):
    """Planted: the rule above can fail, also for imports hidden in a function."""
    package = module.rpartition(".")[0]
    assert complaints(module, imports(ast.parse(line), package)) == [sentence]


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("palate.recipes.demo", "from palate.report import report"),
        ("palate.train.loop", "from palate.core.files import write_json"),
        ("palate.backbones.sd", "import diffusers"),
        ("palate.train.loop", "from palate.train.run import Run"),
        ("palate.core.record", "import palate"),
    ],
)
def test_an_allowed_import_passes(module, line):
    assert complaints(module, imports(ast.parse(line), module.rpartition(".")[0])) == []


@pytest.mark.parametrize("room", [room for room in FLOORS if (SOURCE / room).is_dir()])
def test_every_module_imports(room):
    """Also the ones no test touches, with warnings as errors."""
    package = importlib.import_module(f"palate.{room}")
    for found in pkgutil.walk_packages(package.__path__, f"palate.{room}."):
        if not found.name.endswith("__main__"):
            importlib.import_module(found.name)


def test_the_picture_gate_starts_light():
    """Its child process must not pay for torch: palate, palate.data and the decoder stay bare."""
    script = "import palate, palate.data, sys; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "False"


def test_the_command_line_starts_light():
    """`palate --help` must not load a model library."""
    script = (
        "import sys\n"
        "import palate.cli.main\n"
        "print(sorted({'torch', 'diffusers', 'transformers', 'peft', 'matplotlib'}"
        " & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={**os.environ, "PYTHONWARNINGS": "error"},
    )
    assert done.stdout.strip() == "[]"


def test_what_is_imported_is_declared(repository: Path):
    """A package that is only there because another one brings it may vanish with the next one."""
    import re
    import tomllib

    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    listed = [*project["dependencies"]]
    listed += [line for name in ("tracking", "vlm", "labels") for line in extras[name]]
    names = {re.split(r"[<>=!\[; ]", line)[0].lower().replace("_", "-") for line in listed}
    origin = packages_distributions()
    missing = set()
    for module, path in modules():
        for name in imports(ast.parse(path.read_text()), package_of(module, path)):
            top = name.split(".")[0]
            if top in {*sys.stdlib_module_names, "palate", ""}:
                continue
            owners = {owner.lower().replace("_", "-") for owner in origin.get(top, [top])}
            if not owners & names:
                missing.add(f"{module} imports {top}")
    assert not missing
