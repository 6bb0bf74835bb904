"""Prepare a slice: read, decode, validate, and write data files without committing them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, TypeVar

import numpy as np
import pyarrow as pa

from coinstream.lake.commit import write_partitions
from coinstream.lake.decoding import BlockDecoder, DecodedBlock
from coinstream.lake.landed_offsets import LandedOffsets, TopicOffsets
from coinstream.lake.quarantine import offender_rows
from coinstream.lake.read_plan import (
    LATEST_MS,
    NO_TIMESTAMP,
    FetchedChunk,
    ReadPlan,
    TopicPartition,
)
from coinstream.lake.schemas import INGESTED, PROVENANCE, QUARANTINE_SCHEMA, TIME, TableSpec, spec_named
from coinstream.lake.slices import PreparedFiles, Slice
from coinstream.lake.topic_reader import TopicReader
from coinstream.lake.validation import Batch, BatchValidator, merge_checks
from coinstream.settings import LakeSettings

if TYPE_CHECKING:
    from pyiceberg.table import Table


T = TypeVar("T")

MEMORY_SHARE: Final = 18
"""Divisor of the memory limit for the payloads of a batch.

Two batches exist at a time, one being read and one being written. Each exists also as columns, as the
validated frame and as the written file, in total about five times its payloads (measured). The rest is for
prefetched messages, which take four times their bytes in the client, and for memory kept by allocators.
"""


def prepare(
    work: Slice, table: Table, reader: TopicReader, validator: BatchValidator, settings: LakeSettings
) -> Iterator[PreparedFiles]:
    """Prepare a slice batch by batch. It can be repeated, because it only writes uncommitted files.

    Raises:
        BrokerError, AuthenticationError: the cluster fails permanently, or does not answer for a minute.
        LakeError: files cannot be written.
    """
    starts = dict(work.expects)
    for batch in read_batches(reader, work.plan, spec_named(work.spec), settings):
        ready = _prepare_batch(work.number, table, batch, validator, starts)
        yield ready
        for topic, offsets in ready.reached.topics.items():
            starts |= {(topic, partition): offset for partition, offset in offsets.next.items()}


def empty_slice(work: Slice, table: Table, validator: BatchValidator) -> PreparedFiles:
    """Return the result for a slice without messages, which may contain control records."""
    offsets: dict[str, dict[int, int]] = {}
    for (topic, partition), at in work.expects.items():
        offsets.setdefault(topic, {})[partition] = at
    reached = {topic: TopicOffsets(nexts, work.plan.ids.get(topic)) for topic, nexts in offsets.items()}
    nothing = QUARANTINE_SCHEMA.empty_table()
    return PreparedFiles(
        number=work.number,
        expects=work.expects,
        reached=LandedOffsets(reached),
        files=(),
        refused=nothing,
        flagged=nothing,
        checks=(),
        messages=0,
        rows=0,
        extra=0,
        spec_id=table.metadata.default_spec_id,
        prepared_at=datetime.now(UTC),
        memory=validator.memory,
    )


def read_batches(
    reader: TopicReader, plan: ReadPlan, spec: TableSpec, settings: LakeSettings
) -> Iterator[Batch]:
    """Read a plan as decoded batches. Reading, decoding and processing of batches overlap."""
    source = batches(
        spec,
        prefetch(reader.chunks(plan)),
        plan,
        max_rows=settings.batch_rows,
        max_bytes=settings.memory_bytes // MEMORY_SHARE,
    )
    return prefetch(source)


def _prepare_batch(
    number: int,
    table: Table,
    batch: Batch,
    validator: BatchValidator,
    starts: dict[TopicPartition, int],
) -> PreparedFiles:
    ingested = datetime.now(UTC)
    memory_before = validator.memory
    validation = validator.validate(batch, ingested)
    rows = table_rows(batch, pa.array(~validation.refused), ingested)
    touched = {
        (topic, partition) for topic, offsets in batch.reached.topics.items() for partition in offsets.next
    }
    return PreparedFiles(
        number=number,
        expects={partition: at for partition, at in starts.items() if partition in touched},
        reached=batch.reached,
        files=tuple(write_partitions(table, rows)),
        refused=offender_rows(batch, validation, validation.refused, ingested),
        flagged=offender_rows(batch, validation, validation.flagged(), ingested),
        checks=tuple(merge_checks(validation.checks)),
        messages=len(batch),
        rows=rows.num_rows,
        extra=len(batch) - batch.rows["extra"].null_count,
        spec_id=table.metadata.default_spec_id,
        prepared_at=ingested,
        memory=validator.memory,
        memory_before=memory_before,
    )


def table_rows(batch: Batch, mask: pa.BooleanArray, ingested: datetime) -> pa.Table:
    """Return the selected rows of a batch with the columns of its table."""
    rows = batch.rows if mask.true_count == len(mask) else batch.rows.filter(mask)
    stamp = pa.repeat(pa.scalar(ingested, TIME), rows.num_rows)
    rows = rows.append_column(INGESTED, stamp)
    return pa.Table.from_arrays(rows.columns, schema=batch.spec.schema)


def prefetch(source: Iterator[T]) -> Iterator[T]:
    """Compute items in another thread, at most one ahead of the consumer.

    Most of the reading, decoding and writing runs outside of Python, without the GIL.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="landing") as pool:
        pending = pool.submit(next, source, None)
        while (item := pending.result()) is not None:
            pending = pool.submit(next, source, None)
            yield item


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
        self._reached = self._reached.advanced(_offsets_after(chunk, self._ids))
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


def _offsets_after(chunk: FetchedChunk, ids: Mapping[str, str | None]) -> LandedOffsets:
    """Return the next offsets after the records of a chunk."""
    nexts: dict[str, dict[int, int]] = {}
    width = int(chunk.partition.max(initial=0)) + 1
    reached = np.zeros((len(chunk.topics), width), np.int64)
    reached[chunk.topic, chunk.partition] = chunk.offset + 1
    for at, partition in np.argwhere(reached > 0).tolist():
        nexts.setdefault(chunk.topics[at], {})[partition] = int(reached[at, partition])
    return LandedOffsets({topic: TopicOffsets(parts, ids.get(topic)) for topic, parts in nexts.items()})


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
