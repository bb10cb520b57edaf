"""Tests compute on one thread, since small tensors gain nothing from more; Hypothesis tries few examples."""

import pytest
import torch
from hypothesis import settings

settings.register_profile("shared-machine", deadline=None, max_examples=40)
settings.load_profile("shared-machine")


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    torch.set_num_threads(1)
