"""Named tensors out of what a checkpoint file held: dicts within dicts, and nothing else.

Read next: `files.py`, whose one reader of pickled files asks this module about what it got.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from palate.core.problems import WeightsError, require

_DEEPEST, _MOST = 6, 200_000
_PLAIN = (str, int, float, bool, type(None))


def named_tensors(
    value: Any, *, source: str, room: int
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Every tensor of nested dicts by its name, and what else there was, in words.

    Names of nested dicts are joined by `/`: `state_dict/visual.proj`.

    Args:
        value: What was read.
        source: What messages call it.
        room: Bytes that all tensors together may have. Tensors that share memory, or repeat one
            number without end, can claim far more than their file has.

    Raises:
        WeightsError: when it is no dict, is too deep or too large, or a tensor is not plain.
    """
    _need(isinstance(value, Mapping), f"{source}: a {type(value).__name__}", "a dict of tensors")
    tensors: dict[str, Tensor] = {}
    others: dict[str, str] = {}
    waiting: list[tuple[str, int, Mapping[Any, Any]]] = [("", 0, value)]
    seen = 0
    while waiting:
        prefix, depth, level = waiting.pop()
        seen += len(level)
        _need(
            depth < _DEEPEST and seen <= _MOST,
            f"{source}: dicts {depth} deep with more than {seen} names",
            f"at most {_DEEPEST} levels and {_MOST} names",
        )
        for key, each in level.items():
            _need(isinstance(key, str | int), f"{source}: a name of {type(key).__name__}", "words")
            name = f"{prefix}{key}"
            if isinstance(each, Mapping):
                waiting.append((f"{name}/", depth + 1, each))
            elif isinstance(each, Tensor):
                tensors[name] = _plain(name, each, source)
            else:
                others[name] = _said(each)
    claimed = sum(each.numel() * each.element_size() for each in tensors.values())
    _need(claimed <= room, f"{source}: tensors of {claimed:,} bytes", f"at most {room:,}")
    return tensors, others


def _plain(name: str, tensor: Tensor, source: str) -> Tensor:
    """The tensor without gradient, once it is sure that it is only numbers in memory."""
    _need(
        type(tensor) in (Tensor, torch.nn.Parameter)
        and tensor.layout == torch.strided
        and tensor.device.type == "cpu"
        and not tensor.is_quantized,
        f"{source}: {name} is a {type(tensor).__name__} of {tensor.layout} on {tensor.device}",
        "plain tensors",
    )
    return tensor.detach()


def _said(value: Any) -> str:
    """What a value that is no tensor is, in a few words; a stranger's text is not repeated."""
    if isinstance(value, _PLAIN) and not isinstance(value, str):
        return str(value)[:40]
    return f"a {type(value).__name__}"


def _need(condition: bool, got: str, need: str) -> None:
    require(
        condition,
        got=got,
        need=f"a checkpoint of named weights: {need}",
        fix="Use the file as its authors published it, or the same weights as safetensors.",
        kind=WeightsError,
    )
