"""Group decoded messages into batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from coinstream.lake.decoding import BlockDecoder, DecodedBlock
from coinstream.lake.landed_offsets import LandedOffsets
from coinstream.lake.read_plan import LATEST_MS, NO_TIMESTAMP, FetchedChunk, ReadPlan, offsets_after
from coinstream.lake.schemas import PROVENANCE, TIME, TableSpec

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Batch:
    """Messages of one type, one row each, in the order of their partitions.

    Attributes:
        rows: message columns, `extra`, and the origin of each row.
        fault: error of a payload that could not be decoded, else null.
        utc_times: whether the times are ISO-8601 in UTC.
        payloads: original bytes, possibly compressed.
        reached: next offsets after the batch.
    """

    spec: TableSpec
    rows: pa.Table
    fault: pa.ChunkedArray
    utc_times: pa.ChunkedArray
    payloads: pa.ChunkedArray
    reached: LandedOffsets

    @property
    def topic_ids(self) -> dict[str, str | None]:
        """Return the id of each topic of the batch, if the broker has topic ids."""
        return {topic: position.topic_id for topic, position in self.reached.topics.items()}

    def __len__(self) -> int:
        return int(self.rows.num_rows)

    def storable(self) -> Mask:
        """Return a mask of rows that were decoded and have all required fields."""
        good = pc.is_null(self.fault)
        for column in self.spec.columns:
            if column.required and self.rows[column.name].null_count:
                good = pc.and_(good, pc.is_valid(self.rows[column.name]))
        return np.asarray(good)

    def where(self, mask: Mask) -> Batch:
        """Return the batch with the chosen rows only."""
        chosen = pa.array(mask)
        return replace(
            self,
            rows=self.rows.filter(chosen),
            fault=self.fault.filter(chosen),
            utc_times=self.utc_times.filter(chosen),
            payloads=self.payloads.filter(chosen),
        )

    def beyond(self, landed: LandedOffsets, ids: dict[str, str | None]) -> Mask:
        """Return a mask of rows that are not landed yet."""
        return rows_beyond(self.rows, landed, ids)


def rows_beyond(rows: pa.Table, landed: LandedOffsets, ids: Mapping[str, str | None]) -> Mask:
    """Return a mask of rows after the landed offsets of their partition."""
    topics = rows["topic"].unique().to_pylist()
    index = pc.index_in(rows["topic"], value_set=pa.array(topics, pa.string())).to_numpy()
    partition = rows["partition"].to_numpy()
    width = int(partition.max(initial=0)) + 1
    nexts = np.array([[landed.next(t, part, ids.get(t)) for part in range(width)] for t in topics], np.int64)
    if not topics:
        return np.zeros(0, np.bool_)
    fresh: Mask = rows["offset"].to_numpy() >= nexts[index, partition]
    return fresh


def batches(
    spec: TableSpec, chunks: Iterable[FetchedChunk], plan: ReadPlan, *, max_rows: int, max_bytes: int
) -> Iterator[Batch]:
    """Decode chunks and merge them to batches of at most `max_rows` rows or `max_bytes` of payload.

    A chunk above a limit becomes one batch.
    """
    gathered = _Gathering(spec, dict(plan.ids))
    for chunk in chunks:
        if gathered.rows and (
            gathered.rows + len(chunk) > max_rows or gathered.size + chunk.size > max_bytes
        ):
            yield gathered.close()
        gathered.add(chunk)
        if gathered.rows >= max_rows or gathered.size >= max_bytes:
            yield gathered.close()
    if gathered.rows:
        yield gathered.close()


class _Gathering:
    def __init__(self, spec: TableSpec, ids: dict[str, str | None]) -> None:
        self._spec = spec
        self._ids = ids
        self._decoder = BlockDecoder(spec)
        self._clear()

    def _clear(self) -> None:
        self.rows = 0
        self.size = 0
        self._parts: list[tuple[pa.Table, DecodedBlock]] = []
        self._reached = LandedOffsets()

    def add(self, chunk: FetchedChunk) -> None:
        decoded = self._decoder.decode(chunk.payloads, chunk.compressed, chunk.faults)
        table = decoded.rows
        for field, values in zip(PROVENANCE, _provenance(chunk), strict=True):
            table = table.append_column(field, values)
        self._parts.append((table, decoded))
        self._reached = self._reached.advanced(offsets_after(chunk, self._ids))
        self.rows += len(chunk)
        self.size += chunk.size

    def close(self) -> Batch:
        tables, decoded = zip(*self._parts, strict=True)
        batch = Batch(
            self._spec,
            pa.concat_tables(tables),
            _joined([part.fault for part in decoded]),
            _joined([part.utc_times for part in decoded]),
            pa.chunked_array([part.payloads for part in decoded], pa.binary()),
            self._reached,
        )
        self._clear()
        return batch


def _provenance(chunk: FetchedChunk) -> list[pa.Array]:
    names = pa.DictionaryArray.from_arrays(chunk.topic.astype(np.int32), pa.array(chunk.topics, pa.string()))
    return [
        names.cast(pa.string()),
        pa.array(chunk.partition.astype(np.int32)),
        pa.array(chunk.offset),
        _record_times(chunk),
    ]


def _record_times(chunk: FetchedChunk) -> pa.Array:
    known = (chunk.timestamp >= NO_TIMESTAMP) & (chunk.timestamp <= LATEST_MS)
    micros = np.where(known, chunk.timestamp, 0) * 1000
    return pa.array(micros, pa.int64(), mask=~known).cast(TIME)


def _joined(arrays: list[pa.ChunkedArray]) -> pa.ChunkedArray:
    return pa.chunked_array([chunk for array in arrays for chunk in array.chunks], arrays[0].type)
