"""Every objective keeps every promise."""

import subprocess
import sys
from functools import partial
from importlib.resources import files
from pathlib import Path

import pytest

from contracts.objective_contract import CHECKS
from contracts.restatements import RESTATEMENTS
from palate.objectives import (
    CDPO,
    D3PO,
    DMPO,
    DSPO,
    IPO,
    KTO,
    OBJECTIVES,
    RDPO,
    SDPO,
    SEEDPO,
    CaPO,
    FlowDPO,
    MaPO,
)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda objective: objective.name)
def test_an_objective_keeps_its_promise(objective, check):
    check(objective)


# Settings under which a part of the formula counts that hardly does by default.
VARIANTS = {
    "cdpo, many wrong labels": partial(CDPO, epsilon=0.4),
    "rdpo, many wrong labels": partial(RDPO, epsilon=0.4),
    "ipo, a far target": partial(IPO, beta=1.0),
    "dmpo, a near target": partial(DMPO, alpha=0.3),
    "see-dpo, absolute": partial(SEEDPO, gamma=50.0, gamma_mode="absolute"),
    "kto, losses weigh more": partial(KTO, undesirable=2.5, positives=0.8),
    "mapo, mostly margin": partial(MaPO, weight=3.0, squash=2.0),
    "dspo, a strong lean": partial(DSPO, beta=1.0),
    "sdpo, everything is kept back": partial(SDPO, beta=5000.0, slack=0.99),
    "sdpo, one share for the step": partial(SDPO, per="batch"),
    "capo, a bias": partial(CaPO, bias=-2.0, beta=300.0),
    "flow-dpo, as strong as dpo": partial(FlowDPO, beta=2000.0),
    "d3po, a strong hold": partial(D3PO, beta=200.0, clip=0.3),
}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_it_keeps_its_promise_with_other_settings_too(variant, check):
    check(VARIANTS[variant])


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


@pytest.mark.slow
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
