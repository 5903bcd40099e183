"""Evaluating a run knows which prompts it was trained on."""

from palate.cli.named import trained_prompts
from palate.data.pairs import PreferencePairs
from palate.train.run import Run
from train.conftest import snapshot


def test_a_run_and_its_export_lead_to_the_prompts_of_its_data(tmp_path):
    data = snapshot(tmp_path, pairs=4)
    out = tmp_path / "runs/first"
    (out / "export").mkdir(parents=True)
    (out / "run.yaml").write_text(Run.from_values({"model": "m", "data": str(data)}).to_yaml())
    expected = frozenset(PreferencePairs.open(data).prompts)
    assert len(expected) == 2
    assert trained_prompts(out) == trained_prompts(out / "export") == expected


def test_a_run_that_drew_for_prompts_leads_to_those_it_learned_from(tmp_path):
    words = tmp_path / "prompts.txt"
    words.write_text("".join(f"prompt {i}\n" for i in range(20)))
    made = {"model": "m", "objective.name": "d3po", "rollout.prompts": str(words)}
    (tmp_path / "run.yaml").write_text(Run.from_values(made).to_yaml())
    assert trained_prompts(tmp_path) == frozenset(f"prompt {i}" for i in range(18))


def test_without_a_run_or_its_data_nobody_knows(tmp_path):
    assert trained_prompts(tmp_path) is None
    (tmp_path / "run.yaml").write_text(
        Run.from_values({"model": "m", "data": str(tmp_path / "gone")}).to_yaml()
    )
    assert trained_prompts(tmp_path) is None
