"""Names of models: a folder is a folder, and only what looks like a Hub id is asked for."""

from pathlib import Path

import pytest

from palate.core.hub import fetch
from palate.core.problems import WeightsError


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[dict]:
    """What the Hub's client was asked; it answers with an empty folder and reaches no network."""
    questions: list[dict] = []

    def answer(identity: str, **rest: object) -> str:
        questions.append({"identity": identity, **rest})
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", answer)
    return questions


def test_a_folder_is_used_as_it_is(asked, tmp_path):
    assert fetch(tmp_path, files=["*.json"]) == tmp_path
    assert asked == []


@pytest.mark.parametrize("name", ["nothing", "./a/b", "/a/b", "a/b/c", "a b/c", "~/a", "a/b@", ""])
def test_what_is_neither_folder_nor_hub_id_is_not_asked_for(asked, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    if name == "":
        assert fetch(name, files=[]) == Path()  # the folder one is in
        return
    with pytest.raises(WeightsError, match="which is not a folder"):
        fetch(name, files=["*.json"])
    assert asked == []


def test_a_hub_id_is_asked_for_with_its_revision_and_only_the_files_wanted(asked, tmp_path):
    assert fetch("owner/name@v1.0", files=["*.json"], without=["big/*"]) == tmp_path
    assert fetch("owner/na.me", files=["a"], kind="dataset") == tmp_path
    assert asked == [
        {
            "identity": "owner/name",
            "revision": "v1.0",
            "repo_type": "model",
            "allow_patterns": ["*.json"],
            "ignore_patterns": ["big/*"],
        },
        {
            "identity": "owner/na.me",
            "revision": None,
            "repo_type": "dataset",
            "allow_patterns": ["a"],
            "ignore_patterns": [],
        },
    ]


def test_a_refusal_of_the_hub_is_said_in_three_parts(monkeypatch):
    def refuse(*_: object, **__: object) -> str:
        raise OSError("401 Client Error\nmore lines")

    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    with pytest.raises(WeightsError, match=r"from the Hub \(401 Client Error\)\. Need a folder"):
        fetch("owner/name", files=[])
