"""Pick-a-Pic: parquet with both pictures as bytes and a label for each (Kirstain et al., 2023).

`label_0` is 1 where the first picture won, 0 where the second did, and 0.5 for a tie. A common
trainer takes everything that is not 0 as a win for the first; here a tie stays a tie.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, final

import pyarrow as pa
import pyarrow.parquet as pq

from palate.core.problems import DataError, nearest, require, unknown
from palate.data.comparison import SOURCES_OF_LABELS, Source
from palate.data.sources.draft import Draft, Fault, Importer, Reading, Unfit, probability, word
from palate.data.sources.hub import Download, download, resolve_files

REQUIRED = ("jpg_0", "jpg_1", "caption", "label_0")
OPTIONAL = (
    "label_1",
    "best_image_uid",
    "image_0_uid",
    "image_1_uid",
    "user_id",
    "has_label",
    "ranking_id",
    "model_0",
    "model_1",
    "are_different",
    "num_example_per_prompt",
    "created_at",
    "image_0_url",
    "image_1_url",
)
USED = (*REQUIRED, *OPTIONAL[:9], "created_at")
BATCH_ROWS = 16
MAX_ROW_GROUP_BYTES = 4 * 1024**3


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class PickAPic(Importer):
    """Parquet with the columns of Pick-a-Pic, from a file, a folder of shards or a Hub id.

    Attributes:
        labels: What kind of judge made the labels.
        files: Which parquet files of a folder or data set, as a pattern.
        revision: Which commit of a Hub data set.
        fetch: How a Hub data set is fetched.
    """

    name: ClassVar[str] = "pickapic"
    about: ClassVar[str] = "parquet with jpg_0, jpg_1, caption and label_0"

    labels: Source = "human"
    files: str = "*.parquet"
    revision: str | None = None
    fetch: Download = download

    def __post_init__(self) -> None:
        if self.labels not in SOURCES_OF_LABELS:
            raise unknown("labels", str(self.labels), SOURCES_OF_LABELS)

    def open(self, path: str | Path) -> Reading:
        """Check the columns of every shard, then read them row by row.

        Raises:
            DataError: when no shard can be read.
        """
        paths = resolve_files(path, pattern=self.files, revision=self.revision, fetch=self.fetch)
        good, notes, refused = list[Path](), list[str](), list[DataError]()
        for shard in paths:
            try:
                found = _columns(shard)
            except DataError as error:
                refused.append(error)
                notes.append(f"file refused: {error}")
                continue
            good.append(shard)
            note = f"optional columns found: {', '.join(found) or 'none'}"
            if note not in notes:
                notes.append(note)
        if not good:
            raise refused[0]
        rows = (row for shard in good for row in self._shard(shard))
        return Reading(rows, notes)

    def _shard(self, path: Path) -> Iterator[Draft | Fault]:
        """Every row of one file, a few at a time."""
        seen = 0
        with pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20) as file:
            total = file.metadata.num_rows
            columns = [name for name in USED if name in file.schema_arrow.names]
            try:
                for batch in file.iter_batches(BATCH_ROWS, columns=columns):
                    for index in range(batch.num_rows):
                        yield self._row(_Cells(batch, index), f"pickapic:{path.name}#row {seen}")
                        seen += 1
            except (pa.ArrowException, OSError) as error:
                yield Fault(
                    reason="unreadable-rows",
                    origin=f"pickapic:{path.name}#rows {seen} to {total - 1}",
                    detail=str(error)[:100],
                    count=total - seen,
                )

    def _row(self, cell: Callable[[str], Any], origin: str) -> Draft | Fault:
        try:
            agreement = _label(cell)
            return Draft(
                origin=origin,
                prompt=cell("caption"),
                pictures=(_picture(cell("jpg_0")), _picture(cell("jpg_1"))),
                agreement=agreement,
                judge=f"pickapic/{word(cell('user_id'))}",
                source=self.labels,
                judged_at=word(cell("created_at"), "") or None,
                generation=tuple(_made(cell, side) for side in (0, 1)),
            )
        except Unfit as unfit:
            return unfit.fault(origin)


@final
@dataclass(frozen=True, slots=True)
class _Cells:
    """The values of one row, read one by one: a bad one must not hide its neighbours."""

    batch: pa.RecordBatch
    index: int

    def __call__(self, name: str) -> Any:
        if name not in self.batch.schema.names:
            return None
        try:
            return self.batch.column(name)[self.index].as_py()
        except (pa.ArrowException, ValueError, OverflowError) as error:
            raise Unfit("wrong-type", f"{name}: {type(error).__name__}") from error


def _label(cell: Callable[[str], Any]) -> float:
    """Probability that the first picture won.

    Raises:
        Unfit: when nobody labelled the row, or its labels contradict each other.
    """
    first, second = probability(cell("label_0"), "label_0"), probability(cell("label_1"), "label_1")
    if first is None or cell("has_label") is False:
        raise Unfit("unlabelled")
    if second is not None and abs(first + second - 1) > 1e-6:
        raise Unfit("labels-disagree", f"label_0={first:g}, label_1={second:g}")
    best, uids = cell("best_image_uid"), (cell("image_0_uid"), cell("image_1_uid"))
    if best is not None and best in uids and uids[0] != uids[1]:
        said = 1.0 if best == uids[0] else 0.0
        # A soft label may favour either side; a hard one must name the same picture.
        if (first > 0.5) != (said > 0.5) or first == 0.5:
            raise Unfit("labels-disagree", f"label_0={first:g}, best_image_uid says {said:g}")
    return first


def _picture(value: object) -> bytes:
    """Encoded bytes, plain or wrapped as the Hub's image type wraps them."""
    if isinstance(value, Mapping):
        value = value.get("bytes")  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
    if value is None:
        raise Unfit("missing-field", "a picture is null")
    if not isinstance(value, bytes):
        raise Unfit("wrong-type", f"a picture of type {type(value).__name__}")  # pyright: ignore[reportUnknownArgumentType]
    return value


def _made(cell: Callable[[str], Any], side: int) -> dict[str, str] | None:
    facts = {"model": f"model_{side}", "uid": f"image_{side}_uid"}
    found = {name: word(cell(column), "") for name, column in facts.items()}
    kept = {name: value for name, value in found.items() if value}
    return kept or None


def _columns(path: Path) -> list[str]:
    """The optional columns of a file that has all required ones.

    Raises:
        DataError: when it is not parquet, lacks a column, or asks for too much memory.
    """
    try:
        with pq.ParquetFile(path) as file:
            names = list(file.schema_arrow.names)
            meta = file.metadata
            sizes = [meta.row_group(i).total_byte_size for i in range(meta.num_row_groups)]
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            got=f"{path.name}, which is not parquet or is cut ({str(error)[:100]})",
            need="a whole parquet file",
            fix="Fetch or copy it again.",
        ) from error
    for name in REQUIRED:
        guess = nearest(name, names)
        require(
            name in names,
            got=f"{path.name} with the columns {', '.join(names)[:300]}",
            need=f"the column {name}",
            fix=f"Rename {guess} to {name}?" if guess else "Use another importer for this file.",
            kind=DataError,
        )
    require(
        max(sizes, default=0) <= MAX_ROW_GROUP_BYTES,
        got=f"{path.name} with a row group of {max(sizes, default=0) / 1e9:.1f} GB",
        need=f"row groups of at most {MAX_ROW_GROUP_BYTES / 1e9:.1f} GB",
        fix="Write it again with smaller row groups.",
        kind=DataError,
    )
    return [name for name in OPTIONAL if name in names]
