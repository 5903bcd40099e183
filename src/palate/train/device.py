"""Where to compute."""

import torch

from palate.core.problems import require
from palate.train.run import Run


def choose_device(run: Run) -> str:
    """The device a run asks for; `auto` takes CUDA where there is one, else the CPU.

    Apple's `mps` is taken only when it is named. On CUDA, float32 is kept whole: TensorFloat-32,
    which drops 13 of its 23 bits, is switched off.

    Raises:
        SettingError: when it is not there, or cannot do the precision asked for.
    """
    found = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    wished = run.plan.device
    device = ("cuda" if found["cuda"] else "cpu") if wished == "auto" else wished
    require(
        found.get(device, True),
        got=f"plan.device={device}, which this machine does not have",
        need="a device that is there",
        fix="Use plan.device=auto.",
    )
    require(
        run.plan.precision != "fp16" or device == "cuda",
        got=f"plan.precision=fp16 on {device}",
        need="fp32 or bf16 there",
        fix="Use plan.precision=fp32.",
    )
    if device == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
    return device
