"""Cut a read plan into slices, and describe what workers get and what they prepared."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.dataset as ds

from coinstream.lake.landed_offsets import LandedOffsets
from coinstream.lake.read_plan import OffsetRange, ReadPlan, TopicPartition
from coinstream.lake.validation import CheckResult, merge_checks
from coinstream.settings import LakeSettings

if TYPE_CHECKING:
    from pyiceberg.manifest import DataFile
    from pyiceberg.table import StaticTable, Table
    from pyiceberg.table.metadata import TableMetadata


_STORE_PREFIXES = ("s3.", "gcs.", "gs.", "adls.", "hdfs.", "client.", "downcast", "py-io-impl")


@dataclass(frozen=True)
class TableTarget:
    """The table that files are written for, without its catalog and without any credential."""

    metadata: TableMetadata

    @classmethod
    def of(cls, table: Table) -> TableTarget:
        """Describe a table as it is now."""
        return cls(table.metadata)

    def open(self, settings: LakeSettings) -> StaticTable:
        """Open the table for writing files; the object store's credentials come from the settings."""
        from pyiceberg.catalog.noop import NoopCatalog
        from pyiceberg.io import load_file_io
        from pyiceberg.table import StaticTable

        from coinstream.lake.store import FILE_IO

        given = {"py-io-impl": FILE_IO, **settings.properties}
        properties = {name: value for name, value in given.items() if name.startswith(_STORE_PREFIXES)}
        location = self.metadata.location
        io = load_file_io(properties, location)
        return StaticTable(("", ""), self.metadata, location, io, NoopCatalog("workers"))


@dataclass(frozen=True)
class Slice:
    """A part of a read plan that is prepared as one piece of work.

    Attributes:
        number: its place among the slices of a plan.
        spec: the name of the message type.
        plan: what to read.
        expects: the offset at which the table must stand, for each partition, when the slice is committed.
    """

    number: int
    spec: str
    plan: ReadPlan
    expects: Mapping[TopicPartition, int]

    def after(self, before: PreparedFiles) -> Slice:
        """Return the slice beginning where the one before it came to.

        That may be before or beyond the planned cut: control records and open transactions occupy offsets.
        """
        at = {
            (topic, partition): before.reached.topics[topic].next[partition]
            for topic, partition in self.plan.spans
        }
        spans = {partition: (at[partition], stop) for partition, (_, stop) in self.plan.spans.items()}
        return replace(self, plan=ReadPlan(spans, self.plan.ids), expects=at)


@dataclass(frozen=True)
class PreparedFiles:
    """Data files with the rows of a slice or of a part of it. No snapshot refers to them yet.

    Attributes:
        expects: the offset at which the table must stand, for each partition, to take the files.
        reached: the offsets after them.
        files: the data files.
        refused: rows of the quarantine.
        flagged: rows of the table of flagged messages.
        checks: what each expectation found.
        spec_id: the partition spec that the files were written for.
        prepared_at: when.
        memory: what the validator remembers after these rows.
        memory_before: what it remembered before them.
        worker: the process that prepared them; empty for the process that commits them.
        retries: how often a worker died that prepared them.
    """

    number: int
    expects: Mapping[TopicPartition, int]
    reached: LandedOffsets
    files: tuple[DataFile, ...]
    refused: pa.Table
    flagged: pa.Table
    checks: tuple[CheckResult, ...]
    messages: int
    rows: int
    extra: int
    spec_id: int
    prepared_at: datetime
    memory: Any = None
    memory_before: Any = None
    worker: str = ""
    retries: int = 0


def join_prepared(parts: Sequence[PreparedFiles]) -> PreparedFiles:
    """Return the parts of one slice, which are in their order, as one."""
    expects: dict[TopicPartition, int] = {}
    reached = LandedOffsets()
    for part in parts:
        expects = {**part.expects, **expects}
        reached = reached.advanced(part.reached)
    return replace(
        parts[0],
        expects=expects,
        reached=reached,
        files=tuple(file for part in parts for file in part.files),
        refused=pa.concat_tables([part.refused for part in parts]),
        flagged=pa.concat_tables([part.flagged for part in parts]),
        checks=tuple(merge_checks(check for part in parts for check in part.checks)),
        messages=sum(part.messages for part in parts),
        rows=sum(part.rows for part in parts),
        extra=sum(part.extra for part in parts),
        memory=parts[-1].memory,
    )


def make_slices(
    spec: str, plan: ReadPlan, landed: LandedOffsets, most: int | None = None
) -> list[list[Slice]]:
    """Cut a plan into chains of slices of about `most` offsets; without a limit into one slice.

    Partitions are kept whole as far as they fit: a fetch brings more than is asked for, so thin cuts through
    many partitions are read several times over. Only a partition that is larger than a slice is cut, and its
    slices form a chain, each of which begins where the one before it came to.
    """
    chains = [[plan]] if most is None else _cut(plan, most)
    expects = {partition: landed.next(*partition, plan.ids.get(partition[0])) for partition in plan.spans}
    numbered = iter(range(sum(map(len, chains))))
    return [
        [
            Slice(next(numbered), spec, part, {partition: expects[partition] for partition in part.spans})
            for part in chain
        ]
        for chain in chains
    ]


def _cut(plan: ReadPlan, most: int) -> list[list[ReadPlan]]:
    chains: list[list[ReadPlan]] = []
    gathered: dict[TopicPartition, OffsetRange] = {}
    size = 0
    for partition, (start, stop) in sorted(plan.spans.items(), key=lambda item: item[1][0] - item[1][1]):
        count = stop - start
        if count > most:
            parts = -(-count // most)
            cuts = [start + count * part // parts for part in range(parts + 1)]
            chains.append([ReadPlan({partition: each}, plan.ids) for each in pairwise(cuts)])
        elif count > 0:
            if size and size + count > most:
                chains.append([ReadPlan(gathered, plan.ids)])
                gathered, size = {}, 0
            gathered[partition] = (start, stop)
            size += count
    if gathered:
        chains.append([ReadPlan(gathered, plan.ids)])
    return chains


_KEPT: Final = 4
_opened: Final[dict[tuple[str, int | None], ds.Dataset | pa.Table]] = {}


@dataclass(frozen=True)
class SharedTable:
    """A snapshot of a table that tasks read.

    Pickled, it holds no credential: workers take theirs from their environment.

    Attributes:
        table: the table.
        settings: of the lake.
    """

    table: Table
    settings: LakeSettings

    def __reduce__(self) -> tuple[Callable[..., SharedTable], tuple[object, ...]]:
        return _restore, (TableTarget.of(self.table), self.settings.without_secrets())

    def rows(self) -> ds.Dataset | pa.Table:
        """Return the rows; a process lists the files of a snapshot once, however many tasks read it."""
        # Imported here: preparing a slice does without DuckDB.
        from coinstream.lake.warehouse import as_dataset

        metadata = self.table.metadata
        key = (metadata.location, metadata.current_snapshot_id)
        if key not in _opened:
            if len(_opened) >= _KEPT:
                _opened.pop(next(iter(_opened)))
            _opened[key] = as_dataset(self.table)
        return _opened[key]


def _restore(target: TableTarget, given: Mapping[str, Any]) -> SharedTable:
    settings = LakeSettings(**given)
    return SharedTable(target.open(settings), settings)
