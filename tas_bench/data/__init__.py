"""Images: the data sets known by name, their training and test parts, the halves, and batches of them.

The test part is reached through `load_test` alone; methods see the two `halves` of the training part.
"""

from tas_bench.data.batches import Batches
from tas_bench.data.datasets import check_data, download, halves, load_test, load_train, set_aside, train_count
from tas_bench.data.images import AnyImages, DatasetInfo, ImageFiles, Images, all_datasets, dataset_info
from tas_bench.data.loading import Passes, batches_of

__all__ = [
    "AnyImages",
    "Batches",
    "DatasetInfo",
    "ImageFiles",
    "Images",
    "Passes",
    "all_datasets",
    "batches_of",
    "check_data",
    "dataset_info",
    "download",
    "halves",
    "load_test",
    "load_train",
    "set_aside",
    "train_count",
]
