"""Write rows to data files, one per partition, as pyiceberg's append does but without unnecessary copies."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from pyiceberg.manifest import DataFile
    from pyiceberg.partitioning import PartitionKey
    from pyiceberg.table import Table

    from coinstream.lake.slices import PreparedFiles

log = logging.getLogger("coinstream.lake")


def append(table: Table, rows: pa.Table, properties: dict[str, str]) -> None:
    """Add rows and properties in one snapshot. Without rows, the snapshot only sets the properties."""
    append_files(table, write_partitions(table, rows), properties)


def append_files(table: Table, files: Iterable[DataFile], properties: Mapping[str, str]) -> None:
    """Add files and properties in one snapshot."""
    with (
        table.transaction() as change,
        change.update_snapshot(snapshot_properties=dict(properties)).fast_append() as snapshot,
    ):
        for file in files:
            snapshot.append_data_file(file)


def drop_files(table: Table, stale: Sequence[PreparedFiles]) -> None:
    """Delete files that will not be committed. Compaction deletes remaining ones."""
    for one in stale:
        for file in one.files:
            try:
                table.io.delete(file.file_path)
            except OSError as error:
                log.info("stale file %s stays for compaction to remove: %s", file.file_path, error)


def write_partitions(table: Table, rows: pa.Table) -> Iterator[DataFile]:
    """Write rows to one or more files per partition, without committing them."""
    for key, part in _partitioned(table, rows) if rows.num_rows else ():
        yield from write_files(table, part, key)


def write_files(table: Table, rows: pa.Table, key: PartitionKey | None) -> Iterator[DataFile]:
    """Write rows of one partition, without committing the files.

    Columns of the table that are missing in the rows, for example of a newer version, are null.
    """
    from pyiceberg.io.pyarrow import pyarrow_to_schema, write_file
    from pyiceberg.table import WriteTask

    schema = pyarrow_to_schema(rows.schema, name_mapping=table.schema().name_mapping)
    batches = rows.combine_chunks().to_batches()
    task = WriteTask(uuid.uuid4(), 0, schema, batches, partition_key=key)
    return iter(write_file(table.io, table.metadata, iter([task])))


def _partitioned(table: Table, rows: pa.Table) -> Iterator[tuple[PartitionKey | None, pa.Table]]:
    """Yield the rows of each partition with its key."""
    spec, schema = table.spec(), table.schema()
    if not spec.fields:
        yield None, rows
        return
    columns = [
        field.transform.pyarrow_transform(schema.find_type(field.source_id))(
            rows[schema.find_column_name(field.source_id)]
        )
        for field in spec.fields
    ]
    told = pa.table(columns, names=[field.name for field in spec.fields])
    kinds = told.group_by(told.column_names, use_threads=False).aggregate([]).to_pylist()
    for kind in kinds:
        yield _key(table, kind), rows if len(kinds) == 1 else rows.filter(_equal(told, kind))


def _equal(told: pa.Table, kind: dict[str, Any]) -> pa.ChunkedArray:
    found = None
    for name, value in kind.items():
        same = pc.is_null(told[name]) if value is None else pc.fill_null(pc.equal(told[name], value), False)
        found = same if found is None else pc.and_(found, same)
    return found


def _key(table: Table, kind: dict[str, Any]) -> PartitionKey:
    from pyiceberg.partitioning import PartitionFieldValue, PartitionKey

    spec = table.spec()
    values = [PartitionFieldValue(field, kind[field.name]) for field in spec.fields]
    return PartitionKey(values, spec, table.schema())
