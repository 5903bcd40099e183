"""Calls that run strangers' code, and words that tie the project to one machine."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

# Opening any of these with a stranger's file can run code. Weights come through
# `core.files.load_weights`, settings through a safe YAML loader, and nothing else is opened.
FORBIDDEN = {
    "torch.load",
    "torch.jit.load",
    "pickle.load",
    "pickle.loads",
    "pickle.Unpickler",
    "dill.load",
    "dill.loads",
    "joblib.load",
    "marshal.loads",
    "shelve.open",
    "yaml.load",
    "yaml.load_all",
    "yaml.unsafe_load",
    "yaml.full_load",
    "eval",
    "exec",
    "dcp.load",
    "torch.distributed.checkpoint.load",
    "os.system",
}
FORBIDDEN_IMPORTS = {
    "pickle",
    "dill",
    "joblib",
    "marshal",
    "shelve",
    "torch.distributed.checkpoint",
}
GLOBAL_RANDOMNESS = {"torch.manual_seed", "np.random.seed", "numpy.random.seed", "random.seed"}


def dotted(node: ast.expr) -> str:
    """The name of a call such as `torch.load`, or an empty string."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        base = dotted(node.value)
        return f"{base}.{node.attr}" if base else ""
    return ""


def offences(source: str) -> Iterator[str]:
    """Every forbidden call or import of a file, whatever the module was renamed to."""
    tree = ast.parse(source)
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                names[alias.asname or alias.name.split(".")[0]] = (
                    alias.name if alias.asname else alias.name.split(".")[0]
                )
                if alias.name in FORBIDDEN_IMPORTS:
                    yield f"import {alias.name}"
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                names[alias.asname or alias.name] = full
                if node.module in FORBIDDEN_IMPORTS or full in FORBIDDEN_IMPORTS | FORBIDDEN:
                    yield f"import {full}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            written = dotted(node.func)
            head, _, rest = written.partition(".")
            meant = ".".join(part for part in (names.get(head, head), rest) if part)
            if {written, meant} & (FORBIDDEN | GLOBAL_RANDOMNESS):
                yield f"{meant}()"


# One line each, with its reason.
ALLOWED = {
    # diffusers' layers draw their first weights from the global generator: it is lent to them
    # inside `fork_rng` and put back.
    ("src/palate/backbones/tiny.py", "torch.manual_seed()"),
    # `read_pickled_tensors`, for `palate scorer convert` alone: torch's restricted reader, which
    # builds tensors and plain values and refuses every other name. See the test below.
    ("src/palate/core/files.py", "torch.load()"),
}


def test_no_file_of_ours_opens_what_can_run_code(repository: Path):
    found = [
        f"{path.relative_to(repository)}: {offence}"
        for path in sorted((repository / "src").rglob("*.py"))
        for offence in offences(path.read_text())
        if (path.relative_to(repository).as_posix(), offence) not in ALLOWED
    ]
    assert not found


def test_the_one_reader_of_pickled_files_is_the_restricted_one(repository: Path):
    tree = ast.parse((repository / "src/palate/core/files.py").read_text())
    calls = [
        n for n in ast.walk(tree) if isinstance(n, ast.Call) and dotted(n.func) == "torch.load"
    ]
    (call,) = calls
    told = {each.arg: each.value for each in call.keywords}
    assert isinstance(told["weights_only"], ast.Constant)
    assert told["weights_only"].value is True
    assert set(told) == {"map_location", "weights_only"}


@pytest.mark.parametrize(
    "source",
    [
        "import torch\ntorch.load('x')",
        "import torch as t\nt.load('x')",
        "from torch import load\nload('x')",
        "import pickle",
        "from pickle import loads as safe",
        "import yaml\nyaml.load('x')",
        "eval('1')",
        "exec('x = 1')",
        "import torch.distributed.checkpoint as dcp\ndcp.load({})",
        "from torch.distributed import checkpoint\ncheckpoint.load({})",
        "import torch\ntorch.manual_seed(0)",
        "import numpy as np\nnp.random.seed(0)",
        "import os\nos.system('ls')",
    ],
)
def test_a_forbidden_call_is_found_under_any_name(source):
    """Planted: the scan above can fail."""
    assert list(offences(source))


@pytest.mark.parametrize(
    "source",
    [
        "model.eval()",
        "import yaml\nyaml.safe_load('x')",
        "import re\nre.compile('x')",
        "import json\njson.load(open('x'))",
        "import torch\ntorch.Generator().manual_seed(0)",
    ],
)
def test_harmless_calls_pass(source):
    assert not list(offences(source))


def tracked(repository: Path) -> list[Path]:
    """Every text file that git knows."""
    done = subprocess.run(
        ["git", "ls-files", "-z"], cwd=repository, capture_output=True, text=True, timeout=60
    )
    if done.returncode:
        pytest.skip("not a git checkout")
    found = [repository / name for name in done.stdout.split("\0") if name]
    return [path for path in found if path.is_file() and b"\0" not in path.read_bytes()[:8000]]


# Written in pieces, so that this file does not find itself.
MACHINE = [
    re.compile(pattern)
    for pattern in (
        r"(?<![\w.~-])/(work|tmp|root|home|opt|mnt|Users)" + r"/\w",
        r"https?://[\w.-]*(?:pypi|npmjs|pythonhosted|artifact|registry|mirror)" + r"[\w.-]*",
        r"--(?:extra-)?index" + r"-url|--find" + r"-links",
        r"==[\d.]+\+c" + r"pu\b",
    )
]


def test_no_tracked_file_names_a_machine_path_or_a_package_host(repository: Path):
    found = [
        f"{path.relative_to(repository)}:{number}: {line.strip()[:120]}"
        for path in tracked(repository)
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
        if any(pattern.search(line) for pattern in MACHINE)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "line",
    [
        "see /tm" + "p/x",
        "--find" + "-links /x",
        "https://py" + "pi.org/simple",
        "torch==1.0+c" + "pu",
    ],
)
def test_a_machine_path_would_be_found(line):
    assert any(pattern.search(line) for pattern in MACHINE)


def test_no_tracked_file_is_a_lock_or_a_pickle(repository: Path):
    names = [path.name for path in tracked(repository)]
    assert not {"uv.lock", "poetry.lock", "pdm.lock"} & set(names)
    assert not [name for name in names if name.endswith((".pt", ".bin", ".ckpt", ".pkl"))]
