"""Writing pairs in Pick-a-Pic's columns, so that ours enter by the same door as anyone's."""

import io
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from palate.core.files import UNFINISHED
from palate.core.problems import DataError, require, unknown

SCHEMA = pa.schema(
    [
        ("are_different", pa.bool_()),
        ("best_image_uid", pa.string()),
        ("caption", pa.string()),
        ("created_at", pa.timestamp("ns")),
        ("has_label", pa.bool_()),
        ("image_0_uid", pa.string()),
        ("image_0_url", pa.string()),
        ("image_1_uid", pa.string()),
        ("image_1_url", pa.string()),
        ("jpg_0", pa.binary()),
        ("jpg_1", pa.binary()),
        ("label_0", pa.float64()),
        ("label_1", pa.float64()),
        ("model_0", pa.string()),
        ("model_1", pa.string()),
        ("ranking_id", pa.int64()),
        ("user_id", pa.int64()),
        ("num_example_per_prompt", pa.int64()),
    ]
)


def jpeg(pixels: NDArray[np.uint8], quality: int = 95) -> bytes:
    """A picture [height, width, 3] as JPEG bytes, colour at full resolution."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality, subsampling=0, optimize=True)
    return file.getvalue()


def export_pickapic(
    rows: Iterable[Mapping[str, Any]], path: Path | str, *, rows_per_group: int = 100
) -> int:
    """Write rows as Pick-a-Pic v2 parquet, atomically. Returns how many.

    Each row needs `caption`, `jpg_0`, `jpg_1` and `label_0`; other columns of the schema may be
    given and are null otherwise, except those that follow from the label.

    Raises:
        SettingError: when a row has a column that the schema does not.
        DataError: when a row lacks a column or a value has the wrong type.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f"{UNFINISHED}{uuid.uuid4().hex}-{target.name}")
    count = 0
    try:
        # Pictures do not compress twice; the text columns are small.
        with pq.ParquetWriter(temporary, SCHEMA, compression="zstd") as writer:
            for group in _groups(rows, rows_per_group):
                writer.write_table(pa.Table.from_pylist(group, schema=SCHEMA))
                count += len(group)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except (pa.ArrowException, TypeError) as error:
        raise DataError(
            got=f"a row with a value of the wrong type ({error})",
            need="values as in Pick-a-Pic's schema",
            fix="Pictures are bytes, labels numbers, user_id an integer.",
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
    return count


def _groups(rows: Iterable[Mapping[str, Any]], size: int) -> Iterator[list[dict[str, Any]]]:
    source = iter(rows)
    while group := [_whole(row) for row in islice(source, size)]:
        yield group


def _whole(row: Mapping[str, Any]) -> dict[str, Any]:
    for name in row:
        if name not in SCHEMA.names:
            raise unknown("column", name, SCHEMA.names)
    for name in ("caption", "jpg_0", "jpg_1", "label_0"):
        require(
            row.get(name) is not None,
            got=f"a row without {name}",
            need="caption, jpg_0, jpg_1 and label_0",
            fix="Fill it in.",
            kind=DataError,
        )
    return {"has_label": True, "label_1": 1 - row["label_0"], **row}
