"""Where a result came from, written so that a stranger can judge it."""

import json

import palate
from palate.core import record
from palate.core.record import code_state, machine, provenance, versions


def test_versions_name_everything_that_can_change_a_number():
    found = versions()
    assert found["palate"] == palate.__version__
    assert set(record.PACKAGES) < set(found)
    assert found["torch"][0].isdigit()


def test_a_package_that_is_absent_is_said_to_be_absent(monkeypatch):
    monkeypatch.setattr(record, "PACKAGES", ("no-such-package",))
    assert versions()["no-such-package"] == "not installed"


def test_the_thread_count_is_part_of_the_machine():
    assert machine()["threads"] == 1


def test_the_code_state_is_a_commit_or_an_honest_gap(monkeypatch):
    assert code_state()

    def fail(*_: object) -> str:
        raise OSError

    monkeypatch.setattr(record, "_git", fail)
    assert code_state() == "not recorded"


def test_provenance_is_plain_json_with_the_facts_given():
    found = json.loads(json.dumps(provenance(beta_convention="logit = (beta/2) * margin")))
    assert found["beta_convention"] == "logit = (beta/2) * margin"
    assert found["made_at"].endswith("+00:00")
