"""What every test stands on: shapes are checked, one thread, files in one place."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from jaxtyping import config, install_import_hook

# Shapes are types while testing, and cost nothing in production. The hook must be in place before
# the first import of these modules, which is why it stands at the top of this file.
SHAPE_CHECKED = ("palate.core.contrast", "palate.core.path", "palate.objectives")
assert not [name for name in sys.modules if name.startswith(SHAPE_CHECKED)]
install_import_hook(list(SHAPE_CHECKED), "shapes.checked")

# Sums depend on the number of threads; two workers with two threads each would also be slower.
torch.set_num_threads(1)

# Shared machines stall now and then: a slow example is not a failing one. The same examples
# every time, so that a red run can be repeated.
settings.register_profile("palate", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("palate")


@pytest.fixture(scope="session")
def repository() -> Path:
    """The folder that holds pyproject.toml."""
    return Path(__file__).resolve().parents[1]


@pytest.fixture
def shapes_unchecked() -> Iterator[None]:
    """Production's view: the shape checks are off, so that our own message is what a user gets."""
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)
