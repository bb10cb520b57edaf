"""One thread, since small tensors gain nothing from more; few examples of Hypothesis; fixtures that are shared."""

import shutil

import pytest
import torch
from helpers import write_folder
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


@pytest.fixture(scope="session")
def image_folders(tmp_path_factory):
    """The data folder of a small imagenette; not to be written to."""
    root = tmp_path_factory.mktemp("data")
    write_folder(root / "imagenette")
    return root


@pytest.fixture
def own_folders(image_folders, tmp_path):
    """A copy that a test may damage."""
    shutil.copytree(image_folders, tmp_path / "data")
    return tmp_path / "data"
