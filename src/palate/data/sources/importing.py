"""The one way in: a source is read row by row, pictures pass the gate, good rows reach the store.

A bad row never stops an import; it is counted under its reason. Everything that was kept is
committed at the end as one part, so an interrupted import has added nothing.
"""

import dataclasses
import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from itertools import combinations
from pathlib import Path
from typing import Any, Final, final

from palate.core.problems import DataError, require, unknown
from palate.data.comparison import Comparison, ImageRef, compare
from palate.data.ingest import Gate, Refusal
from palate.data.sources.draft import Draft, Fault, Importer, Unfit, caption, content
from palate.data.sources.folders import Folders
from palate.data.sources.hpdv2 import HPDv2
from palate.data.sources.imagereward import ImageReward
from palate.data.sources.pickapic import PickAPic
from palate.data.sources.report import ImportReport, Tally
from palate.data.sources.winners import Winners
from palate.data.store import Store

IMPORTERS: Final[tuple[type[Importer], ...]] = (PickAPic, HPDv2, ImageReward, Winners, Folders)
SOURCES: Final[dict[str, type[Importer]]] = {kind.name: kind for kind in IMPORTERS}
_REMEMBERED = 50_000


def import_comparisons(
    store: Store,
    source: str,
    path: str | Path,
    *,
    limit: int | None = None,
    on_row: Callable[[int], None] | None = None,
    gate: Gate | None = None,
    **settings: Any,
) -> ImportReport:
    """Read preferences in one of the known formats into a store.

    Args:
        store: Where they go.
        source: Name of the format, one of `SOURCES`.
        path: File, folder or, for `pickapic`, a Hub id.
        limit: Stop after this many rows.
        on_row: Called with the number of rows read so far.
        gate: A decoder that is running already; otherwise one is started.
        **settings: The format's own settings, see its class.

    Raises:
        SettingError: when the format or a setting does not exist.
        DataError: when nothing of it can be read.
        StateError: when another process writes to the store.
    """
    importer = make_importer(source, **settings)
    require(
        limit is None or limit > 0,
        got=f"limit={limit}",
        need="a positive number of rows",
        fix="Leave it out to read everything.",
    )
    started = time.monotonic()
    reading = importer.open(path)
    tally = Tally()
    with store.writing(), Gate() if gate is None else nullcontext(gate) as door:
        rows = _Rows(store, door, tally)
        store.add(rows.accepted(_counted(reading.rows, tally, limit, on_row)))
        notes = tuple(reading.notes)
        report = tally.report(source, str(path), notes, time.monotonic() - started)
        store.note_import(report.to_json())
    return report


def make_importer(source: str, **settings: Any) -> Importer:
    """The importer of a format with its settings.

    Raises:
        SettingError: when the name or a setting does not exist.
    """
    if source not in SOURCES:
        raise unknown("source", source, SOURCES)
    kind = SOURCES[source]
    names = [field.name for field in dataclasses.fields(kind)]  # pyright: ignore[reportArgumentType]
    for name in settings:
        if name not in names:
            raise unknown(f"setting of {source}", name, names)
    return kind(**settings)


def _counted(
    rows: Iterator[Draft | Fault],
    tally: Tally,
    limit: int | None,
    on_row: Callable[[int], None] | None,
) -> Iterator[Draft]:
    """Count every row, hand on the drafts."""
    for row in rows:
        faulty = isinstance(row, Fault)
        tally.read += row.count if faulty else 1
        if faulty:
            tally.drop(row)
        else:
            yield row
        if on_row is not None:
            on_row(tally.read)
        if limit is not None and tally.read >= limit:
            return


@final
class _Rows:
    """Turns drafts into comparisons that are new to the store."""

    def __init__(self, store: Store, gate: Gate, tally: Tally) -> None:
        self._store = store
        self._gate = gate
        self._tally = tally
        self._ids = set(store.ids())
        self._orders = {order for row in store.rows() for order in _orders(row)}
        # The same picture often comes in many rows: decode it once.
        self._refs: dict[bytes, ImageRef | Refusal] = {}

    def accepted(self, drafts: Iterator[Draft]) -> Iterator[Comparison]:
        """The comparisons to keep; everything else is counted."""
        for draft in drafts:
            try:
                row = self._comparison(draft)
            except Unfit as unfit:
                self._tally.drop(unfit.fault(draft.origin))
                continue
            self._keep(row)
            yield row

    def _comparison(self, draft: Draft) -> Comparison:
        prompt = caption(draft.prompt)
        images = [self._picture(picture) for picture in draft.pictures]
        if len({image.sha256 for image in images}) < len(images):
            raise Unfit("same-picture-twice")
        try:
            row = compare(
                prompt=prompt,
                images=images,
                ranks=draft.ranks,
                agreement=draft.agreement,
                judge=draft.judge,
                source=draft.source,
                judged_at=draft.judged_at,
                generation=draft.generation,
                origin=draft.origin,
            )
        except DataError as error:
            raise Unfit("wrong-count", error.got) from error
        if not row.labelled:
            raise Unfit("unlabelled")
        if row.id in self._ids:
            raise Unfit("duplicate")
        return row

    def _picture(self, picture: bytes | Path) -> ImageRef:
        data = content(picture)
        key = hashlib.blake2b(data, digest_size=16).digest()
        found = self._refs.get(key)
        if found is None:
            if len(self._refs) >= _REMEMBERED:
                self._refs.clear()
            found = self._refs[key] = self._admit(data)
        if isinstance(found, Refusal):
            raise Unfit(found.reason, found.detail)
        return found

    def _admit(self, data: bytes) -> ImageRef | Refusal:
        normal = self._gate.normalise(data)
        if isinstance(normal, Refusal):
            return normal
        self._tally.pictures.update(normal.notes)
        return self._store.put(normal.pixels)

    def _keep(self, row: Comparison) -> None:
        self._ids.add(row.id)
        self._tally.kept += 1
        self._tally.ties += row.tie
        orders = _orders(row)
        if any((prompt, worse, better) in self._orders for prompt, better, worse in orders):
            self._tally.contradictory += 1
            self._tally.example("contradictory", row.origin)
        self._orders.update(orders)


def _orders(row: Comparison) -> list[tuple[str, str, str]]:
    """Every strict preference in a record, as (prompt, better, worse)."""
    if row.ranks is None:
        return []
    found: list[tuple[str, str, str]] = []
    for first, second in combinations(range(len(row.images)), 2):
        names = row.images[first].sha256, row.images[second].sha256
        if row.ranks[first] < row.ranks[second]:
            found.append((row.prompt, names[0], names[1]))
        elif row.ranks[first] > row.ranks[second]:
            found.append((row.prompt, names[1], names[0]))
    return found
