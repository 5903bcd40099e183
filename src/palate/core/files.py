"""Files that are either whole or absent, and the one place that reads weights.

Everything is written under a temporary name, forced to disk, and renamed. A folder carries a
manifest of its files' sizes and digests, because a flipped bit in a safetensors file loads
without a word. Weights are read from safetensors only: no other format can be opened without
running code that a stranger may have put there. The one exception is `read_pickled_tensors`, by
which a published checkpoint is turned into safetensors once, on an explicit command.
"""

import hashlib
import json
import os
import re
import shutil
import uuid
import warnings
import zipfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from palate.core.nested import named_tensors
from palate.core.problems import DataError, StateError, WeightsError, require

MANIFEST = "manifest.json"
UNFINISHED = ".unfinished-"
REPLACED = ".replaced-"
PICKLED = (".pt", ".pth", ".bin", ".ckpt")
PICKLED_LIMIT = 20_000_000_000
_ABOUT = "palate"


def digest_bytes(data: bytes) -> str:
    """SHA-256 of some bytes, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def digest_file(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_json(value: Any) -> str:
    """SHA-256 of a value's canonical JSON: sorted keys, no spaces."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return digest_bytes(text.encode())


def digest_tensors(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of names, shapes, types and bytes, so that a renamed tensor is another digest."""
    total = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        total.update(f"{name}|{tuple(tensor.shape)}|{tensor.dtype}|".encode())
        total.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def write_atomic(path: Path, data: bytes | str) -> None:
    """Write a file so that a reader sees the old content or the new, never a part.

    Raises:
        StateError: when the disk refuses; nothing is left under the final name.
    """
    temporary = _unfinished(path)
    raw = data.encode() if isinstance(data, str) else data
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    except OSError as error:
        _discard(temporary)
        raise _refused(path, error) from error


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON, atomically."""
    write_atomic(path, json.dumps(value, indent=2, default=str) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        DataError: when the file is missing or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(
            got=f"{path}: {error}", need="a readable JSON file", fix="Check the path."
        ) from error


@contextmanager
def new_folder(path: Path, *, replace: bool = False) -> Generator[Path, None, None]:
    """A folder that appears under its name only when the block has ended without an error.

    The block fills the temporary folder it is given. On leaving, every file is forced to disk,
    the manifest is written, and the folder is renamed. With `replace`, an existing folder is
    moved aside first and removed after the new one stands; `sweep` brings it back when a kill
    fell between the two.

    Raises:
        StateError: when the folder exists and `replace` is false, or the disk refuses.
    """
    require(
        replace or not path.exists(),
        got=f"{path}, which exists",
        need="a new folder",
        fix="Choose another name, or remove it first.",
        kind=StateError,
    )
    temporary = _unfinished(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()
        yield temporary
        write_manifest(temporary)
        _put_in_place(temporary, path)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise _refused(path, error) from error
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def write_manifest(folder: Path) -> None:
    """Record size and digest of every file in a folder, and force them all to disk."""
    files = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.name != MANIFEST):
        with path.open("rb") as file:
            os.fsync(file.fileno())
        name = path.relative_to(folder).as_posix()
        files[name] = {"bytes": path.stat().st_size, "sha256": digest_file(path)}
    write_json(folder / MANIFEST, {"files": files})


def damage(folder: Path, *, contents: bool = True) -> str | None:
    """What is wrong with a folder according to its manifest, or None when it is whole.

    Without `contents` only names and sizes are compared, which takes no time.
    """
    try:
        files = json.loads((folder / MANIFEST).read_text())["files"]
        items = [(name, int(fact["bytes"]), str(fact["sha256"])) for name, fact in files.items()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return f"{MANIFEST} is missing or unreadable"
    for name, size, digest in items:
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != size:
            return f"{name} has {path.stat().st_size} bytes instead of {size}"
        if contents and digest_file(path) != digest:
            return f"{name} was changed: its digest differs"
    return None


def sweep(folder: Path) -> int:
    """Undo what interrupted writes left in a folder. Returns how many things were put right."""
    left, aside = list(folder.glob(f"{UNFINISHED}*")), list(folder.glob(f"{REPLACED}*"))
    for path in aside:
        standing = path.with_name(path.name.removeprefix(REPLACED))
        if not standing.exists():
            os.replace(path, standing)
    for path in [*left, *aside]:
        _discard(path)
    return len(left) + len(aside)


def sync_folder(folder: Path) -> None:
    """Force a rename itself to disk; without it a power cut may undo the name."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def save_weights(
    path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any] | None = None
) -> None:
    """Write named tensors as safetensors, atomically.

    Args:
        path: The file.
        tensors: What is in it.
        about: Plain values for its header, which `read_about` reads.

    Raises:
        StateError: when the disk refuses.
    """
    temporary = _unfinished(path)
    # Shared storage (tied weights) cannot be written; a clone of each is what a reader expects.
    plain = {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # One entry only: several stand in another order from save to save.
        told = None if about is None else json.dumps(about, sort_keys=True)
        save_file(plain, temporary, metadata={"format": "pt"} if told is None else {_ABOUT: told})
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    except (OSError, SafetensorError) as error:
        _discard(temporary)
        raise _refused(path, error) from error


def read_about(path: Path) -> dict[str, Any]:
    """The plain values that `save_weights` wrote into a file's header; empty where it wrote none.

    Raises:
        WeightsError: when the file is no safetensors file, or its header says nothing readable.
    """
    try:
        with safe_open(path, "pt") as opened:
            told = (opened.metadata() or {}).get(_ABOUT, "{}")
        value = json.loads(told)
    except (OSError, SafetensorError, ValueError, RecursionError) as error:
        raise WeightsError(
            got=f"{path}: {error}", need="a whole safetensors file", fix="Fetch it again."
        ) from error
    require(
        isinstance(value, dict),
        got=f"{path} with a header of {type(value).__name__}",
        need="a header as palate writes it",
        fix="Write the file again.",
        kind=WeightsError,
    )
    return value


def load_weights(
    path: Path, *, sha256: str | None = None, finite: bool = True
) -> dict[str, Tensor]:
    """Read named tensors from a safetensors file: the only reader of weights in the project.

    Args:
        path: The file. Any other format is refused.
        sha256: The digest it must have, where one is known.
        finite: Refuse NaN and infinity, which the format itself lets through.

    Raises:
        WeightsError: when the format, the digest or a value is wrong.
    """
    require(
        path.suffix == ".safetensors",
        got=str(path),
        need="a .safetensors file (other formats can run code when opened)",
        fix="Convert it where you trust it, then load the result.",
        kind=WeightsError,
    )
    require(
        sha256 is None or not path.is_file() or digest_file(path) == sha256,
        got=f"{path} with another digest than recorded",
        need=f"sha256 {sha256}",
        fix="Fetch or restore the file again.",
        kind=WeightsError,
    )
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise WeightsError(
            got=f"{path}: {error}", need="a whole safetensors file", fix="Fetch it again."
        ) from error
    if finite:
        _refuse_broken(path, tensors)
    return tensors


def read_pickled_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read the tensors of a .pt, .pth, .bin or .ckpt file without running anything in it.

    Only for `palate scorer convert`. torch's restricted reader knows tensors, dicts and plain
    values; a file that names anything else is refused, and never opened in another way.

    Args:
        path: The checkpoint, of at most 20 GB.

    Returns:
        The finite tensors by name, nested names joined by `/`, and what else there was, in words.

    Raises:
        WeightsError: when it is missing or too large, would run code, or holds other than tensors
            in dicts.
    """
    require(
        path.is_file() and path.suffix in PICKLED and path.stat().st_size <= PICKLED_LIMIT,
        got=str(path),
        need=f"a file ending in {', '.join(PICKLED)}, of at most {PICKLED_LIMIT / 1e9:.0f} GB",
        fix="Check the path.",
        kind=WeightsError,
    )
    try:
        _refuse_packed(path)
        with warnings.catch_warnings(), _nothing_allowed():
            warnings.simplefilter("ignore")
            value = torch.load(path, map_location="cpu", weights_only=True)
    # A stranger's bytes in a library's hands: it dislikes bad ones in many ways.
    except Exception as error:
        raise WeightsError(
            got=f"{path}, which was not opened: {_disliked(error)}",
            need="a checkpoint that holds tensors and nothing that runs",
            fix="Do not open it in any other way unless you trust who made it; get the same "
            "weights as safetensors.",
        ) from error
    tensors, others = named_tensors(value, source=str(path), room=2 * path.stat().st_size)
    _refuse_broken(path, tensors)
    return tensors, others


@contextmanager
def _nothing_allowed() -> Generator[None, None, None]:
    """Inside, torch's restricted reader knows torch's own names, and none another library added."""
    allowed = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    try:
        yield
    finally:
        torch.serialization.add_safe_globals(allowed)


def _disliked(error: Exception) -> str:
    """Why torch would not read a file, without its advice to read it unsafely."""
    named = re.search(r"GLOBAL ([\w.]+)", str(error))
    if named:
        return f"it names {named[1]}, which is no tensor and may run"
    lines = str(error).strip().splitlines()
    if isinstance(error, ValueError) and lines:
        return lines[0][:160]
    # Some classes are called no more than `error`: their module says what they are about.
    kind = type(error)
    name = f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")
    return f"torch's restricted reader makes nothing of it ({name})"


def _refuse_packed(path: Path) -> None:
    """Refuse an archive whose entries are packed: a small file could fill the memory.

    Raises:
        ValueError: when one is; torch itself never packs.
    """
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
            raise ValueError("an archive with packed entries, which torch never writes")


def _refuse_broken(path: Path, tensors: Mapping[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        require(
            not tensor.is_floating_point() or bool(torch.isfinite(tensor).all()),
            got=f"{path}: {name} holds NaN or infinity",
            need="finite weights",
            fix="Use another checkpoint; this one was saved after a training broke.",
            kind=WeightsError,
        )


def _unfinished(path: Path) -> Path:
    """A temporary name beside the final one, so that the rename stays on one disk."""
    return path.with_name(f"{UNFINISHED}{uuid.uuid4().hex}-{path.name}")


def _discard(path: Path) -> None:
    """Remove a file or a folder if it can be removed; what stays is swept later."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
        return
    with suppress(OSError):
        path.unlink()


def _put_in_place(new: Path, path: Path) -> None:
    """Give a finished folder its name; where one stands, it steps aside until then."""
    aside = path.with_name(f"{REPLACED}{path.name}")
    if path.exists():
        shutil.rmtree(aside, ignore_errors=True)
        os.replace(path, aside)
    try:
        os.replace(new, path)
    except OSError:
        if aside.exists():
            os.replace(aside, path)
        raise
    sync_folder(path.parent)
    shutil.rmtree(aside, ignore_errors=True)


def _refused(path: Path, error: Exception) -> StateError:
    try:
        free = f"{shutil.disk_usage(path.parent).free / 1e6:.0f} MB free"
    except OSError:
        free = "free space unknown"
    return StateError(
        got=f"{path}: {error} ({free})",
        need="a writable disk with room",
        fix="Free some space or choose another folder; nothing was left half-written.",
    )
