"""`palate label --by endpoint:…` and `--by vision:…`, from a store to its new labels."""

import shutil

import pytest

from label.stub import BEHAVIOURS, MODEL, Stub
from palate.data.store import Store
from palate.label.endpoint import KEY_FROM
from scorers.tiny_vision import build

FEW = 5


@pytest.fixture(scope="module")
def filled(palate, parquet, tmp_path_factory):
    """A store of thirty pairs. Copied, not written to."""
    folder = tmp_path_factory.mktemp("label") / "store"
    assert palate("data", "import", parquet, "--store", folder).code == 0
    return folder


@pytest.fixture
def store(filled, tmp_path):
    return shutil.copytree(filled, tmp_path / "store")


def words(store, stub, *more):
    return ("label", store, "--by", f"endpoint:{MODEL}", "--url", stub.url, *more)


def labels(store):
    return [row for row in Store(store, create=False).rows() if row.source == "vlm"]


def test_an_endpoint_labels_a_store_and_says_what_it_cost(palate, store, monkeypatch):
    monkeypatch.setenv(KEY_FROM, "sk-not-to-be-kept")
    with Stub() as stub:
        prices = ("--price-in", "2", "--price-out", "10")
        answer = palate(*words(store, stub, "--limit", FEW, *prices, "--json"))
        assert answer.code == 0, answer.err
        asked = len(stub.heard)
        again = palate(*words(store, stub, "--limit", FEW, "--json"))
        assert again.code == 0, again.err
        # What was labelled is passed over, and the next pairs are asked about.
        assert again.json["before"] == FEW
        assert set(stub.requests.values()) == {1}
        # Three requests for each pair, four for one that looks alike.
        assert 6 * FEW <= len(stub.heard) <= 8 * FEW
    found = answer.json
    assert (found["asked"], sum(found["labels"].values()), found["none"]) == (FEW, FEW, {})
    assert found["spent"]["answered"] == asked
    assert found["spent"]["tokens_in"] == 100 * asked
    assert found["spent"]["money"] == pytest.approx(asked * (200 + 50) / 1e6)
    rows = labels(store)
    assert len(rows) == 2 * FEW
    assert {row.judge for row in rows} == {found["judge"]}
    for row in rows:
        assert row.signature is not None
        assert row.signature["rubric"]["name"] == "general"
        assert {"forth", "back"} <= {each["step"] for each in row.signature["asked"]}
        # The brighter picture, whichever side it is recorded on.
        assert row.agreement in (pytest.approx(0.85), pytest.approx(0.15), 0.5)
    written = [path for path in store.rglob("*") if path.suffix in {".json", ".jsonl"}]
    assert written
    assert not any("sk-not" in path.read_text() for path in written)


def test_for_people_the_account_is_one_line(palate, store):
    with Stub() as stub:
        answer = palate(*words(store, stub, "--limit", 2, "--no-canary"))
    assert answer.code == 0, answer.err
    assert "4 requests in" in answer.out
    assert f"2 labels by vlm {MODEL} " in answer.out


def test_what_makes_no_label_is_counted_by_reason(palate, store):
    with Stub(BEHAVIOURS["always first"][0]) as stub:
        answer = palate(*words(store, stub, "--limit", FEW, "--json"))
    assert answer.code == 0, answer.err
    assert (answer.json["labels"], answer.json["none"]) == ({}, {"contradiction": FEW})
    assert labels(store) == []


def test_a_server_that_is_not_there_is_named_and_nothing_is_written(palate, store):
    with Stub() as stub:
        gone = words(store, stub, "--retries", "0", "--timeout", "1")
    answer = palate(*gone)
    assert answer.code == 5
    assert "8 failures in a row from http://127.0.0.1" in answer.err
    assert labels(store) == []


def test_a_rubric_of_ones_own_and_wrong_settings(palate, store, tmp_path):
    from palate.label.rubric import shipped_text

    mine = tmp_path / "mine.md"
    mine.write_text(shipped_text().replace("# general, version 1", "# mine, version 3"))
    with Stub() as stub:
        answer = palate(*words(store, stub, "--limit", 1, "--rubric", mine, "--json"))
        assert answer.code == 0, answer.err
        signature = labels(store)[0].signature
        assert signature is not None
        assert (signature["rubric"]["name"], signature["rubric"]["version"]) == ("mine", 3)
        mine.write_text("# mine, version 3\n\n## Questions\n")
        broken = palate(*words(store, stub, "--rubric", mine))
        assert (broken.code, "Did you mean `## Question`?" in broken.err) == (3, True)
    lost = palate("label", store, "--by", f"endpoint:{MODEL}")
    assert lost.code == 2
    assert "--url" in lost.err


def test_a_vision_model_on_this_machine_labels_a_store(palate, store, tmp_path):
    folder = build("qwen3_vl", tmp_path / "model")
    answer = palate("label", store, "--by", f"vision:{folder}", "--limit", 2, "--json")
    assert answer.code == 0, answer.err
    found = answer.json
    assert sum(found["labels"].values()) + sum(found["none"].values()) == 2
    assert found["judge"].startswith("vlm model ")
