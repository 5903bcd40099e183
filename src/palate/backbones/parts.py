"""Loading one network of a pipeline folder: in float32, whole, finite, and without a word.

Read next: `policy.py`, which puts adapters or trained weights on it.
"""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from diffusers.utils import logging as diffusers_logging
from torch import nn
from transformers.utils import logging as transformers_logging

from palate.backbones.folder import Part
from palate.core.problems import WeightsError, require

Network = TypeVar("Network", bound=nn.Module)


def load_network(kind: type[Network], part: Part, device: torch.device) -> Network:
    """One network in float32, whole and finite, frozen and in evaluation mode.

    Raises:
        WeightsError: when the files cannot be read, lack weights or hold NaN or infinity.
    """
    loader: Any = kind
    with refusing(part):
        network, facts = loader.from_pretrained(
            part.folder,
            use_safetensors=True,
            local_files_only=True,
            variant=part.variant,
            output_loading_info=True,
            dtype=torch.float32,
        )
    _require_whole(network, facts, part)
    return network.requires_grad_(False).eval().to(device)


@contextmanager
def refusing(part: Part) -> Iterator[None]:
    """Inside, whatever a library dislikes about a part becomes one error that names the part."""
    try:
        with quiet():
            yield
    # The folder is a stranger's, and each library has its own many ways of disliking one.
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise WeightsError(
            got=f"{part.folder}: {reason[:300]}",
            need=f"files of a {part.class_name} that fit each other",
            fix="Copy or download the folder again.",
        ) from error


def _require_whole(network: nn.Module, facts: Mapping[str, Any], part: Part) -> None:
    missing = sorted(facts["missing_keys"]) + sorted(map(str, facts["mismatched_keys"]))
    require(
        not missing,
        got=f"{part.folder} without {len(missing)} weights ({', '.join(missing[:3])} …)",
        need=f"all weights of a {part.class_name}",
        fix="Copy or download the folder again; libraries would fill these with random numbers.",
        kind=WeightsError,
    )
    broken = [n for n, t in network.state_dict().items() if not bool(torch.isfinite(t).all())]
    require(
        not broken,
        got=f"{part.folder}: {', '.join(broken[:3])} with NaN or infinity",
        need="finite weights",
        fix="Use another checkpoint; this one was saved after a training broke.",
        kind=WeightsError,
    )


@contextmanager
def quiet() -> Iterator[None]:
    """Without the libraries' own progress bars and notices; ours say what matters."""
    before = (diffusers_logging.get_verbosity(), transformers_logging.get_verbosity())
    bars = transformers_logging.is_progress_bar_enabled()
    diffusers_logging.set_verbosity_error()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            # diffusers' schedulers hand tensors to numpy in a way it is giving up.
            warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)
            yield
    finally:
        diffusers_logging.set_verbosity(before[0])
        transformers_logging.set_verbosity(before[1])
        if bars:
            transformers_logging.enable_progress_bar()
