"""Maintain the tables: merge files, expire snapshots, delete orphan files, and recover a lost catalog.

The metadata file of each commit lists all data files of an Iceberg table and contains the landed offsets. A
lost catalog therefore loses neither rows nor offsets, and landing continues exactly once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs as pafs

from coinstream.errors import LakeError
from coinstream.lake.candles import TABLE as CANDLES
from coinstream.lake.commit import CommitResult, retry_on_conflict
from coinstream.lake.landed_offsets import OFFSETS, RUN, LandedOffsets, read_landed_offsets
from coinstream.lake.schemas import VIOLATION_TABLES
from coinstream.lake.store import Lake, known_specs, wrap_errors
from coinstream.lake.warehouse import MetadataFile, Warehouse, located, write_data_file
from coinstream.settings import LakeSettings

if TYPE_CHECKING:
    from pyiceberg.manifest import DataFile
    from pyiceberg.table import StaticTable, Table


_ROW_BYTES: Final = 512
"""Memory per row while it is rewritten, in bytes (an upper bound)."""
_ORDER: Final = ("partition", "offset", "open_time")
_SAFE_AGE: Final = timedelta(hours=24)
"""Minimum age of orphan files that are deleted; younger ones may belong to a commit in progress."""


@dataclass
class Compaction:
    """Result of the compaction of one table."""

    table: str
    rows: int = 0
    files_before: int = 0
    files_after: int = 0
    rewritten: int = 0
    snapshots_expired: int = 0
    files_removed: int = 0


def compact(lake: Lake, name: str, *, now: datetime | None = None) -> Compaction | None:
    """Compact one table, expire its snapshots and delete its orphan files.

    Rows and landed offsets are unchanged. Landing may run concurrently; conflicting commits are retried.

    Returns:
        The result, or None if the table does not exist.

    Raises:
        LakeError: the catalog or the store failed, or the commit conflicted too often.
    """
    table = lake.find(name)
    if table is None:
        return None
    done = Compaction(name)
    moment = now or datetime.now(UTC)

    def attempt() -> CommitResult:
        current = lake.find(name)
        assert current is not None
        return _rewrite(current, lake.settings, done)

    retry_on_conflict(lake, f"compact {name}", attempt)

    def expire() -> CommitResult:
        current = lake.find(name)
        assert current is not None
        done.snapshots_expired = _expire(
            current, moment - timedelta(hours=lake.settings.keep_snapshots_hours)
        )
        return CommitResult(0, 0, LandedOffsets())

    retry_on_conflict(lake, f"expire snapshots of {name}", expire)
    current = lake.find(name)
    assert current is not None
    done.files_removed = wrap_errors(lambda: _remove_orphan_files(current, moment), f"clean up table {name}")
    done.files_after = len(_files(current))
    return done


def table_names() -> list[str]:
    """Return the names of compacted tables."""
    return [*(spec.name for spec in known_specs()), *VIOLATION_TABLES, CANDLES]


def partition_of_file(file: DataFile) -> tuple[Any, ...]:
    """Return the partition key of a file."""
    return (file.spec_id, *(file.partition[at] for at in range(len(file.partition))))


def _files(table: Table) -> list[DataFile]:
    return [task.file for task in table.scan().plan_files() if not task.delete_files]


def _rewrite(table: Table, settings: LakeSettings, done: Compaction) -> CommitResult:
    files = _files(table)
    # The table of candles has no landed offsets.
    positions = LandedOffsets() if done.table == CANDLES else read_landed_offsets(table)
    done.files_before, done.rows = len(files), sum(file.record_count for file in files)
    bins = list(_bins(files, settings))
    done.rewritten = sum(map(len, bins))
    if not bins:
        return CommitResult(0, 0, positions)
    properties = {RUN: "compaction"} | ({OFFSETS: positions.to_text()} if positions.topics else {})
    with (
        table.transaction() as change,
        change.update_snapshot(snapshot_properties=properties).overwrite() as snapshot,
    ):
        for small in bins:
            for fresh in _merged(table, small):
                snapshot.append_data_file(fresh)
            for file in small:
                snapshot.delete_data_file(file)
    return CommitResult(0, 0, positions)


def _bins(files: Iterable[DataFile], settings: LakeSettings) -> Iterator[list[DataFile]]:
    """Yield groups of small files of one partition that are merged to one file within the memory limit."""
    most_rows = settings.memory_bytes // _ROW_BYTES
    partitions: dict[Any, list[DataFile]] = {}
    for file in files:
        if file.file_size_in_bytes < settings.compact_below_bytes:
            partitions.setdefault(partition_of_file(file), []).append(file)
    for small in partitions.values():
        chosen: list[DataFile] = []
        size = rows = 0
        for file in sorted(small, key=lambda file: file.file_size_in_bytes):
            size += file.file_size_in_bytes
            rows += file.record_count
            if chosen and (size > settings.compact_to_bytes or rows > most_rows):
                if len(chosen) > 1:
                    yield chosen
                chosen, size, rows = [], file.file_size_in_bytes, file.record_count
            chosen.append(file)
        if len(chosen) > 1:
            yield chosen


def _merged(table: Table, small: Sequence[DataFile]) -> Iterable[DataFile]:
    from pyiceberg.partitioning import PartitionFieldValue, PartitionKey

    schema, spec = table.schema(), table.specs()[small[0].spec_id]
    rows = _read(table, small, schema.as_arrow())
    key = None
    if spec.fields:
        values = [PartitionFieldValue(field, small[0].partition[at]) for at, field in enumerate(spec.fields)]
        key = PartitionKey(values, spec, schema)
    return [write_data_file(table, rows, key)]


def _read(table: Table, files: Sequence[DataFile], schema: pa.Schema) -> pa.Table:
    filesystem, _ = located(table, files[0].file_path)
    paths = [located(table, file.file_path)[1] for file in files]
    rows = ds.dataset(paths, schema, "parquet", filesystem=filesystem).to_table()
    # Sort by offset, which compresses well and keeps the rows of a key together.
    order = [name for name in _ORDER if name in schema.names]
    return rows.sort_by([(name, "ascending") for name in order])


def _expire(table: Table, before: datetime) -> int:
    count = len(table.snapshots())
    old = [s.snapshot_id for s in table.snapshots() if s.timestamp_ms < before.timestamp() * 1000]
    current = table.current_snapshot()
    if not old or current is None or old == [current.snapshot_id]:
        return 0
    table.maintenance.expire_snapshots().older_than(before).commit()
    return count - len(table.refresh().snapshots())


def _remove_orphan_files(table: Table, now: datetime) -> int:
    """Delete orphan files of expired snapshots or killed runs."""
    needed = set()
    for snapshot in table.snapshots():
        needed.add(snapshot.manifest_list)
        for manifest in snapshot.manifests(table.io):
            needed.add(manifest.manifest_path)
            needed |= {
                e.data_file.file_path for e in manifest.fetch_manifest_entry(table.io, discard_deleted=False)
            }
    filesystem, _ = located(table, table.location())
    kept = {located(table, address)[1] for address in needed}
    removed = 0
    for folder, endings in (("data", (".parquet",)), ("metadata", (".avro",))):
        root = located(table, f"{table.location()}/{folder}")[1]
        for info in filesystem.get_file_info(pafs.FileSelector(root, recursive=True, allow_not_found=True)):
            young = info.mtime is None or info.mtime > now - _SAFE_AGE
            if info.is_file and info.path.endswith(endings) and info.path not in kept and not young:
                filesystem.delete_file(info.path)
                removed += 1
    return removed


@dataclass(frozen=True)
class Recovered:
    """A recovered table.

    Attributes:
        metadata: metadata file of the recovered version.
        passed_over: newer incomplete versions with their error. Their messages are landed again if the topics
            still contain them.
    """

    table: str
    rows: int
    metadata: str
    passed_over: tuple[str, ...] = ()


def recover(lake: Lake) -> list[Recovered]:
    """Register every table of the warehouse that is not in the catalog, at its newest complete version.

    Tables in the catalog are unchanged, so the function can be called at any time.

    Raises:
        LakeError: the catalog or the store failed, or a table has no complete version.
    """
    known = set(lake.names())
    store = lake.warehouse()
    lost = [name for name in wrap_errors(store.tables, "list the warehouse") if name not in known]
    found = [_recovered(lake, store, name) for name in lost]
    return [table for table in found if table is not None]


def _recovered(lake: Lake, store: Warehouse, name: str) -> Recovered | None:
    versions = wrap_errors(partial(store.versions, name), f"list the versions of table {name}")
    passed_over = []
    for version in versions:
        try:
            table = wrap_errors(partial(_opened, version, lake), f"read {version.address}")
            rows = wrap_errors(partial(_whole, table, store), f"use {version.address}")
        except LakeError as error:
            passed_over.append(str(error))
            continue
        wrap_errors(
            partial(lake.catalog.register_table, lake.identifier(name), version.address),
            f"register table {name}",
        )
        return Recovered(name, rows, version.address, tuple(passed_over))
    if versions:
        raise LakeError(
            f"table {name} has no complete version in {store.address}: {passed_over[0]} Its files must be "
            "at the location at which they were written."
        )
    return None


def _opened(version: MetadataFile, lake: Lake) -> StaticTable:
    from pyiceberg.table import StaticTable

    return StaticTable.from_metadata(version.address, lake.catalog.properties)


def _whole(table: StaticTable, store: Warehouse) -> int:
    """Return the number of rows of a table, or raise if a data file is missing."""
    files = [task.file for task in table.scan().plan_files()]
    missing = store.missing([file.file_path for file in files])
    if missing:
        raise LakeError(
            f"{table.metadata_location}: {len(missing)} data file(s) are missing, first {missing[0]}."
        )
    return sum(file.record_count for file in files)
