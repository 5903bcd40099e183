"""Where a result came from: versions, machine, code state, and digests of what went in."""

import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

import palate

PACKAGES = (
    "torch",
    "diffusers",
    "transformers",
    "peft",
    "accelerate",
    "safetensors",
    "numpy",
    "pillow",
    "pyarrow",
)


def versions() -> dict[str, str]:
    """Versions of palate, Python and the packages that can change a number."""
    found = {"palate": palate.__version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def machine() -> dict[str, Any]:
    """What the numbers were computed on. Thread count is part of it: sums change with it."""
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processors": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "accelerator": torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none",
    }


def code_state() -> str:
    """The commit the code runs from, `+changes` where files differ, or `not recorded`."""
    here = Path(__file__).resolve().parent
    try:
        commit = _git(here, "rev-parse", "--short=12", "HEAD")
        changed = _git(here, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return "not recorded"
    return f"{commit}+changes" if changed else commit


def provenance(**facts: Any) -> dict[str, Any]:
    """Everything that says how a result was made, plus the facts given."""
    return {
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join(["palate", *sys.argv[1:]]),
        "code": code_state(),
        "versions": versions(),
        "machine": machine(),
        **facts,
    }


def _git(folder: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", *words], cwd=folder, capture_output=True, text=True, timeout=10, check=True
    )
    return done.stdout.strip()
