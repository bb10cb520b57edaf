"""CIFAR in the Hugging Face layout: parquet shards whose rows hold a lossless PNG or WebP and a label."""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from tas_bench.data.images import CifarFiles, DatasetInfo, PartName, all_datasets
from tas_bench.errors import InputError
from tas_bench.text import reason

_SHARD = re.compile(r"-(\d+)-of-(\d+)(-\w+)?\.parquet$")


@dataclass(frozen=True)
class ParquetPart:
    """All shards of one part, in order."""

    info: DatasetInfo
    folder: Path
    part: PartName

    @cached_property
    def shards(self) -> list[Path]:
        """The files.

        Raises:
            InputError: there are none, or they are not one whole set.
        """
        shards = sorted(self.folder.glob(f"{self.part}-*.parquet"))
        if not shards:
            raise InputError(f"no {self.part}-*.parquet in '{self.folder}'; fetch {self.info.name} again")
        _check_whole(shards)
        return shards

    def labels(self) -> NDArray[np.int64]:
        """All labels; see `Part`.

        Raises:
            InputError: a shard is unreadable or of the wrong form.
        """
        return np.concatenate([self._labels(path) for path in self.shards])

    def _labels(self, path: Path) -> NDArray[np.int64]:
        with _opened(path) as file:
            _check_columns(path, file.schema_arrow, self.info)
            assert isinstance(self.info.files, CifarFiles)
            column = file.read([self.info.files.label], use_threads=False).column(0)
            if column.null_count:
                raise InputError(f"'{path}' has {column.null_count} rows without a label; fetch it again")
            return np.asarray(column.to_numpy(), dtype=np.int64)

    def images(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Images of some rows; see `Part`. Of each row group, only the chosen rows are decoded.

        Raises:
            InputError: a shard is unreadable, or an image is not what it should be.
        """
        side = self.info.image.side
        images_NHWC = np.empty((len(rows), side, side, self.info.image.channels), np.uint8)
        done = start = 0
        for path in self.shards:
            with _opened(path) as file:
                for group in range(file.num_row_groups):
                    stop = start + file.metadata.row_group(group).num_rows
                    wanted = rows[done : np.searchsorted(rows, stop)] - start
                    for row, data in zip(wanted, _image_bytes(file, group, wanted), strict=True):
                        images_NHWC[done] = _decode(data, side, f"image {row} of row group {group} of '{path}'")
                        done += 1
                    start = stop
        if done < len(rows):
            raise InputError(f"'{self.folder}' has fewer images than labels; fetch {self.info.name} again")
        return np.ascontiguousarray(images_NHWC.transpose(0, 3, 1, 2))


def _check_whole(shards: list[Path]) -> None:
    found = [_SHARD.search(path.name) for path in shards]
    for path, match in zip(shards, found, strict=True):
        if match is None:
            raise InputError(f"cannot tell which shard '{path}' is; name it like train-00000-of-00001.parquet")
    numbers = [int(match[1]) for match in found if match]
    total = max(int(match[2]) for match in found if match)
    missing = next((i for i in range(total) if i not in numbers), None)
    folder, part = shards[0].parent, shards[0].name.split("-")[0]
    if missing is not None:
        raise InputError(f"'{folder}' lacks {part}-{missing:05}-of-{total:05}.parquet; fetch that shard")
    if len(numbers) != total:
        raise InputError(f"'{folder}' mixes two sets of {part}-*.parquet shards; keep one of them")


def _check_columns(path: Path, schema: Any, info: DatasetInfo) -> None:
    """Refuse a file that is not of this data set.

    Raises:
        InputError: it is of another known set, or has not the columns.
    """
    assert isinstance(info.files, CifarFiles)
    if info.files.label not in schema.names:
        for other in all_datasets().values():
            if isinstance(other.files, CifarFiles) and other.files.label in schema.names:
                raise InputError(f"'{path}' holds {other.name}, not {info.name}; name another folder with --data")
    types = {field.name: field.type for field in schema}
    image = types.get("img", pa.null())
    fields = {field.name: field.type for field in image} if pa.types.is_struct(image) else {}
    good_image = fields.get("bytes") in (pa.binary(), pa.large_binary())
    if not good_image or not pa.types.is_integer(types.get(info.files.label, pa.null())):
        raise InputError(
            f"'{path}' has columns {', '.join(schema.names)}; {info.name} needs img (with bytes) and "
            f"{info.files.label} (integers)"
        )


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """A parquet file whose every failure to read is one line."""
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            yield file
    except (pa.ArrowException, OSError, UnicodeError) as error:
        raise InputError(f"cannot read '{path}' ({reason(error)}); fetch it again") from error


def _image_bytes(file: Any, group: int, rows: NDArray[np.int64]) -> list[bytes | None]:
    if not len(rows):
        return []
    column = file.read_row_group(group, ["img.bytes"], use_threads=False).column(0)
    return pc.struct_field(column, "bytes").take(rows).to_pylist()


def _decode(data: bytes | None, side: int, where: str) -> NDArray[np.uint8]:
    """One image, (H, W, 3).

    Raises:
        InputError: the bytes are no PNG or WebP of that size.
    """
    try:
        with Image.open(io.BytesIO(data or b""), formats=("PNG", "WEBP")) as image:
            size = image.size
            if size == (side, side):
                return np.asarray(image.convert("RGB"))
    except Exception as error:  # Pillow raises many kinds on bad bytes
        raise InputError(f"cannot decode {where} as PNG or WebP; fetch the file again") from error
    raise InputError(f"{where} is {size[0]} x {size[1]} pixels; it should be {side} x {side}")
