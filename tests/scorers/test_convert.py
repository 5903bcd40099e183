"""Checkpoints of strangers: converted where they are only tensors, and never run."""

import functools
import io
import operator
import os
import pickle
import shutil
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPTokenizer

from palate.core.files import damage, read_pickled_tensors
from palate.core.problems import SettingError, StateError, WeightsError
from palate.scorers.clip import CLIPScorer
from palate.scorers.convert import KINDS, convert
from palate.scorers.hps import open_hps
from palate.scorers.pickscore import open_pickscore
from scorers.published import aesthetic_checkpoint, hps_checkpoint, saved
from scorers.seen import PROMPTS


class Runs:
    """Unpickled, it calls what it was given."""

    def __init__(self, call, *given) -> None:
        self.call, self.given = call, given

    def __reduce__(self):
        return self.call, self.given


def tensor() -> torch.Tensor:
    return torch.zeros(2)


def payloads(marker: Path) -> dict[str, Runs]:
    """Ways of making a file while being unpickled."""
    made = str(marker)
    write = f"open({made!r}, 'w').close()"
    return {
        "os.system": Runs(os.system, f"touch {made}"),
        "os.popen": Runs(os.popen, f"touch {made}"),
        "os.mkdir": Runs(os.mkdir, made),
        "subprocess": Runs(subprocess.check_output, ["touch", made]),
        "eval": Runs(eval, write),
        "exec": Runs(exec, write),
        "open": Runs(open, made, "w"),
        "Path.touch": Runs(Path.touch, marker),
        "partial": Runs(functools.reduce, operator.getitem, [[Runs(os.mkdir, made)], 0]),
        "getattr": Runs(getattr, Runs(os.mkdir, made), "x"),
        "torch.save": Runs(torch.save, tensor(), made),
        "numpy": Runs(np.save, made + ".npy", 1),
        "nested": Runs(pickle.loads, pickle.dumps(Runs(os.mkdir, made))),
        "loader": Runs(torch.load, made),
    }


def places(payload: object) -> dict[str, object]:
    """Where in a checkpoint it can hide."""
    return {
        "alone": payload,
        "beside": {"state_dict": {"weight": tensor()}, "epoch": payload},
        "among": {"state_dict": {"weight": payload}},
        "in a list": {"optimizer": [payload], "weight": tensor()},
    }


def test_nothing_a_checkpoint_wants_to_run_is_run(tmp_path):
    """C1 of the threat model: 14 calls × 4 places, each would leave a marker."""
    tried = 0
    for call, payload in payloads(tmp_path / "marker").items():
        for place, value in places(payload).items():
            checkpoint = saved(tmp_path / f"{tried}.pt", value)
            with pytest.raises(WeightsError, match=r"which was not opened: it names \w") as refused:
                read_pickled_tensors(checkpoint)
            assert "weights_only" not in str(refused.value)
            assert not list(tmp_path.glob("marker*")), (call, place)
            tried += 1
    assert tried == 56


def test_old_forms_and_plain_pickles_run_nothing_either(tmp_path):
    marker = tmp_path / "marker"
    payload = Runs(os.mkdir, str(marker))
    forms = {
        "pickle.pt": pickle.dumps(payload),
        "protocol0.pt": pickle.dumps(payload, protocol=0),
        "text.bin": b"cos\nmkdir\n(S'" + str(marker).encode() + b"'\ntR.",
        "nothing.pth": b"",
        "half.pth": b"PK\x03\x04" + bytes(40),
        "words.ckpt": b"these are no weights",
    }
    # One byte short of a number: what dislikes it is a class that is called `error`.
    forms["short.pt"] = b"\x80\x02G\x00."
    old = io.BytesIO()
    torch.save({"weight": payload}, old, _use_new_zipfile_serialization=False)
    forms["old.pt"] = old.getvalue()
    for name, data in forms.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(WeightsError, match="which was not opened") as refused:
            read_pickled_tensors(tmp_path / name)
        assert not refused.value.got.endswith(": error")
    assert not marker.exists()


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_checkpoint_that_is_not_there_is_missed_before_a_base(tmp_path, kind):
    with pytest.raises(WeightsError, match=r"no file .*nowhere\.pt"):
        convert(tmp_path / "nowhere.pt", tmp_path / "out", kind=kind)


def test_the_planted_payloads_would_run_if_anything_ran_them(tmp_path):
    """Planted: Python's own reader runs them, so the tests above can fail."""
    for name, payload in payloads(tmp_path / "marker").items():
        if name in ("os.system", "os.mkdir", "eval", "numpy", "nested"):
            pickle.loads(pickle.dumps(payload))
            (found,) = tmp_path.glob("marker*")
            found.rmdir() if found.is_dir() else found.unlink()


def test_neither_the_environment_nor_another_library_loosens_the_reader(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    (tmp_path / "some").write_text("words")
    marker = tmp_path / "marker"
    payload = Runs(shutil.copyfile, str(tmp_path / "some"), str(marker))
    checkpoint = saved(tmp_path / "runs.pt", {"weight": payload})
    with torch.serialization.safe_globals([shutil.copyfile]):
        before = set(torch.serialization.get_safe_globals())
        with pytest.raises(WeightsError, match=r"it names shutil\.copyfile"):
            read_pickled_tensors(checkpoint)
        assert not marker.exists()
        assert set(torch.serialization.get_safe_globals()) == before
        # Planted: what the other library allowed would have run.
        torch.load(checkpoint, weights_only=True)
        assert marker.exists()


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_a_script_archive_is_refused(tmp_path):
    scripted = torch.jit.script(torch.nn.Linear(1, 1))
    torch.jit.save(scripted, tmp_path / "scripted.pt")
    with pytest.raises(WeightsError, match="which was not opened"):
        read_pickled_tensors(tmp_path / "scripted.pt")


def test_a_small_file_cannot_claim_a_large_memory(tmp_path):
    endless = saved(tmp_path / "endless.pt", {"weight": torch.zeros(1).expand(10**6, 10**5)})
    with pytest.raises(WeightsError, match=r"tensors of 400,000,000,000 bytes"):
        read_pickled_tensors(endless)
    plain = saved(tmp_path / "plain.pt", {"weight": torch.zeros(10_000)})
    packed = tmp_path / "packed.pt"
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(packed, "w") as target:
        for entry in source.infolist():
            target.writestr(entry.filename, source.read(entry), zipfile.ZIP_DEFLATED)
    with pytest.raises(WeightsError, match="an archive with packed entries"):
        read_pickled_tensors(packed)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (tensor(), "a Tensor"),
        ([tensor()], "a list"),
        ({("a", 1): tensor()}, "a name of tuple"),
        ({"weight": torch.eye(3).to_sparse()}, "weight is a Tensor of torch.sparse_coo"),
        ({"weight": torch.tensor([1.0, float("nan")])}, "weight holds NaN or infinity"),
        ({"a": {"b": {"c": {"d": {"e": {"f": {"g": {}}}}}}}}, "dicts 6 deep"),
    ],
)
def test_what_is_no_dict_of_plain_finite_tensors_is_refused(tmp_path, value, said):
    with pytest.raises(WeightsError, match=said):
        read_pickled_tensors(saved(tmp_path / "strange.pt", value))


def test_a_dict_that_holds_itself_ends(tmp_path):
    endless: dict[str, object] = {"weight": tensor()}
    endless["self"] = endless
    with pytest.raises(WeightsError, match="dicts 6 deep"):
        read_pickled_tensors(saved(tmp_path / "endless.pt", endless))


def test_names_are_joined_and_what_is_no_tensor_is_said(tmp_path):
    value = {
        "state_dict": {"weight": tensor(), "tied": tensor()},
        "epoch": 3,
        "name": "a stranger's words",
        "optimizer": {"state": {0: {"step": torch.ones(())}}, "groups": [1, 2]},
    }
    tensors, others = read_pickled_tensors(saved(tmp_path / "whole.pt", value))
    assert sorted(tensors) == ["optimizer/state/0/step", "state_dict/tied", "state_dict/weight"]
    assert others == {"epoch": "3", "name": "a str", "optimizer/groups": "a list"}


@pytest.mark.parametrize("name", ["gone.pt", "model.npz", "folder.pt"])
def test_what_is_no_checkpoint_file_is_refused(tmp_path, name):
    (tmp_path / "model.npz").write_bytes(b"x")
    (tmp_path / "folder.pt").mkdir()
    with pytest.raises(WeightsError, match=r"a file ending in \.pt, \.pth, \.bin, \.ckpt"):
        read_pickled_tensors(tmp_path / name)


def test_pickscore_is_transformers_own_model(folder, pictures, tmp_path):
    published = tmp_path / "published"
    shutil.copytree(folder, published)
    weights = load_file(published / "model.safetensors")
    (published / "model.safetensors").unlink()
    counted = {"text_model.embeddings.position_ids": torch.arange(12)[None]}
    checkpoint = saved(published / "pytorch_model.bin", weights | counted)
    told = convert(checkpoint, tmp_path / "pickscore", kind="pickscore")
    assert any("position_ids" in each for each in told.sentences)
    scores = open_pickscore(told.folder).score(pictures, PROMPTS)
    np.testing.assert_array_equal(scores, CLIPScorer.open(folder).score(pictures, PROMPTS))
    del weights["logit_scale"]
    less = saved(published / "less.bin", weights)
    with pytest.raises(WeightsError, match="missing logit_scale"):
        convert(less, tmp_path / "less", kind="pickscore")


def test_pickscore_without_processors_borrows_them(folder, pictures, tmp_path):
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copyfile(folder / name, bare / name)
    borrowed = open_pickscore(bare, processors=folder)
    expected = CLIPScorer.open(folder)
    np.testing.assert_array_equal(
        borrowed.score(pictures, PROMPTS), expected.score(pictures, PROMPTS)
    )
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    (other / "preprocessor_config.json").write_text(
        (folder / "preprocessor_config.json").read_text().replace("0.48145466", "0.5")
    )
    assert open_pickscore(bare, processors=other).identity != borrowed.identity
    # A folder that has its own is not asked to borrow.
    assert open_pickscore(folder, processors=other).identity == expected.identity
    (other / "tokenizer_config.json").unlink()
    with pytest.raises(WeightsError, match=r"without tokenizer_config\.json"):
        open_pickscore(bare, processors=other)


def test_a_scorer_of_another_kind_is_named_when_opened_as_pickscore(folder, tmp_path):
    head = saved(tmp_path / "head.pth", aesthetic_checkpoint(8))
    made = convert(head, tmp_path / "aesthetic", kind="aesthetic", base=folder).folder
    with pytest.raises(WeightsError, match="a scorer of kind 'aesthetic'"):
        open_pickscore(made)


def test_what_happened_is_said_and_the_folder_is_whole(folder, tmp_path):
    weights = hps_checkpoint(len(CLIPTokenizer.from_pretrained(folder)))
    whole = {"state_dict": weights, "epoch": 7, "optimizer": {"step": torch.zeros(1)}}
    checkpoint = saved(tmp_path / "HPS_v2.pt", whole)
    told = convert(checkpoint, tmp_path / "hps", kind="hpsv2", base=folder)
    said = "\n".join(told.sentences)
    for words in (
        f"Read {checkpoint}: {len(weights) + 1} tensors by torch's restricted reader",
        "Left out 1 tensors outside state_dict",
        "optimizer/step",
        "epoch (7)",
        f"Renamed all {len(weights)} tensors",
        f"Wrote {tmp_path / 'hps'}: a scorer of kind hpsv2",
    ):
        assert words in said
    assert damage(told.folder) is None
    with pytest.raises(StateError, match="which exists"):
        convert(checkpoint, tmp_path / "hps", kind="hpsv2", base=folder)


def test_a_safetensors_checkpoint_is_converted_alike(folder, tmp_path):
    weights = hps_checkpoint(len(CLIPTokenizer.from_pretrained(folder)))
    save_file(weights, tmp_path / "hps.safetensors")
    pickled = saved(tmp_path / "hps.pt", {"state_dict": weights})
    made = [
        convert(path, tmp_path / f"from{path.suffix}", kind="hpsv2", base=folder).folder
        for path in (tmp_path / "hps.safetensors", pickled)
    ]
    one, other = (open_hps(each) for each in made)
    assert one.identity == other.identity


def test_a_missing_base_and_an_unknown_kind_are_said_before_anything_is_read(tmp_path):
    (tmp_path / "empty.pt").touch()
    for kind in KINDS:
        with pytest.raises(SettingError, match=r"no --base, and no .* beside empty\.pt"):
            convert(tmp_path / "empty.pt", tmp_path / "out", kind=kind)
    with pytest.raises(SettingError, match=r"Did you mean hpsv2\?"):
        convert(tmp_path / "gone.pt", tmp_path / "out", kind="hpsv3")


def test_a_checkpoint_of_another_kind_is_refused_by_its_names(folder, tmp_path):
    head = saved(tmp_path / "head.pth", aesthetic_checkpoint(8))
    with pytest.raises(WeightsError, match=r"Choose the --kind"):
        convert(head, tmp_path / "out", kind="hpsv2", base=folder)
    with pytest.raises(WeightsError, match=r"Choose the --kind"):
        convert(head, tmp_path / "out", kind="pickscore", base=folder)
    assert not (tmp_path / "out").exists()
