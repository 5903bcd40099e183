"""Every objective keeps every promise."""

import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest

from contracts.objective_contract import CHECKS
from contracts.restatements import RESTATEMENTS
from palate.objectives import OBJECTIVES


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda objective: objective.name)
def test_an_objective_keeps_its_promise(objective, check):
    check(objective)


def test_every_objective_has_a_restatement_and_every_restatement_an_objective():
    assert {objective.name for objective in OBJECTIVES} == set(RESTATEMENTS)


def test_names_are_unique():
    assert len(set(OBJECTIVES.names)) == len(OBJECTIVES)


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda objective: objective.name)
def test_an_objective_has_a_test_of_its_own_and_a_page(objective, repository: Path):
    own = f"test_{objective.name.replace('-', '_')}.py"
    assert (repository / "tests" / "objectives" / own).is_file()
    page = (files("palate.objectives.pages") / f"{objective.name}.md").read_text(encoding="utf-8")
    headings = ["The idea", "What it needs", "Settings", "What to watch"]
    headings += ["Differences from the paper's code", "Evidence"]
    assert [line[3:] for line in page.splitlines() if line.startswith("## ")] == headings


def test_every_objective_traces_as_one_graph_in_float64_and_bfloat16(repository: Path):
    done = subprocess.run(
        [sys.executable, "-m", "contracts.trace_objectives"],
        cwd=repository / "tests",
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split() == [objective.name for objective in OBJECTIVES]
