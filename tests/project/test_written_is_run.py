"""What is written is run: commands marked in README.md and docs/ are executed as they stand.

A block is marked by a line `<!-- run -->` above it; `<!-- run: slow -->` waits for `make test-all`.
Blocks of one file share a folder, so that a page can tell a story.
"""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

BLOCK = re.compile(
    r"^<!-- run(?P<kind>: slow)? -->\n+```(?:sh|bash)\n(?P<code>.*?)^```", re.M | re.S
)
ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]


def run_blocks(page: Path, folder: Path, slow: bool) -> int:
    """Run the marked blocks of a page up to the slow ones or including them."""
    place = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    place |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "COLUMNS": "100"}
    blocks = [m for m in BLOCK.finditer(page.read_text()) if slow or not m["kind"]]
    for block in blocks:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block["code"]],
            cwd=folder,
            env=place,
            capture_output=True,
            text=True,
            timeout=110 if not slow else 900,
        )
        assert done.returncode == 0, f"{block['code']}\n{done.stdout[-800:]}\n{done.stderr[-1500:]}"
    return len(blocks)


def quick(page: Path) -> bool:
    """Two pages of methods stand for all: what they run differs in the method's name alone."""
    return page.parent.name != "methods" or page.stem in ("dpo", "dedpo")


@pytest.mark.parametrize(
    "page",
    [page if quick(page) else pytest.param(page, marks=pytest.mark.slow) for page in PAGES],
    ids=lambda page: page.relative_to(ROOT).as_posix(),
)
def test_marked_commands_run(page, tmp_path):
    if not run_blocks(page, tmp_path, slow=False):
        assert page != PAGES[0], "README.md marks no block with <!-- run -->"


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if "<!-- run: slow -->" in page.read_text()],
    ids=lambda page: page.relative_to(ROOT).as_posix(),
)
def test_slow_marked_commands_run(page, tmp_path):
    assert run_blocks(page, tmp_path, slow=True)


def test_a_command_that_fails_is_noticed(tmp_path):
    """Planted: a page that lies is a failing test."""
    page = tmp_path / "page.md"
    page.write_text("<!-- run -->\n```sh\npalate no-such-command\n```\n")
    with pytest.raises(AssertionError, match="no-such-command"):
        run_blocks(page, tmp_path, slow=False)


def test_every_make_target_that_is_written_exists():
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M)
    for page in PAGES:
        for target in re.findall(r"\bmake ([a-z][a-z-]*)\b(?=`|\s*#|\n)", page.read_text()):
            assert target in targets, f"{page.name} names make {target}"


def test_the_links_between_pages_lead_somewhere():
    missing = []
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", page.read_text()):
            if not (page.parent / target).exists():
                missing.append(f"{page.relative_to(ROOT)} -> {target}")
    assert not missing


def test_constraints_pin_every_direct_dependency_exactly():
    """Two installs a month apart are the same, and no line names a host, a path or a build."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [
        line
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][0-9A-Za-z.]*", line) for line in lines)
    pinned = {line.split("==")[0].lower().replace("_", "-") for line in lines}
    listed = [*project["dependencies"]]
    for extra in project["optional-dependencies"].values():
        listed += extra
    names = {re.split(r"[<>=!\[; ]", line)[0].lower() for line in listed} - {"palate"}
    assert not names - pinned
