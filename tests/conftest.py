"""Tests compute on one thread, since small tensors gain nothing from more; Hypothesis tries few examples."""

import pytest
import torch
from hypothesis import settings

from tas_bench.layers import interpolation_matrix

settings.register_profile("shared-machine", deadline=None, max_examples=40)
settings.load_profile("shared-machine")


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def float64():
    """Matrices are cached in the default type: forget those of the other one, before and after."""
    interpolation_matrix.cache_clear()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)
    interpolation_matrix.cache_clear()
