"""Write data files, and commit them with their offsets in one compare-and-set snapshot."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from coinstream.errors import LakeError
from coinstream.lake.landed_offsets import (
    CHECKS,
    OFFSETS,
    RUN,
    LandedOffsets,
    read_landed_offsets,
)
from coinstream.lake.quarantine import new_offenders
from coinstream.lake.schemas import TableSpec
from coinstream.lake.slices import PreparedFiles
from coinstream.lake.store import Lake
from coinstream.lake.validation import merge_checks

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
    """Write rows to a file per partition, without committing them."""
    # Imported here: pyiceberg takes time that `coinstream --help` does not have.
    from coinstream.lake.warehouse import write_data_file

    for key, part in _partitioned(table, rows) if rows.num_rows else ():
        yield write_data_file(table, part, key)


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


_FIRST_WAIT_S: Final = 0.02
_LONGEST_WAIT_S: Final = 1.0
OLDEST_FILES: Final = timedelta(hours=20)
"""Maximum age of prepared files, because compaction deletes orphan files after a day."""


@dataclass(frozen=True)
class CommitResult:
    """Result of a commit.

    Attributes:
        rows: added rows.
        duplicates: rows that another writer had already landed.
        offsets: landed offsets of the table.
        stale: prepared files that were not committed. Their rows are planned again.
    """

    rows: int
    duplicates: int
    offsets: LandedOffsets
    stale: tuple[PreparedFiles, ...] = ()


def commit_prepared(lake: Lake, spec: TableSpec, ready: Sequence[PreparedFiles], run: str) -> CommitResult:
    """Append the files whose expected offsets match the table, in one snapshot with the new offsets.

    If two writers land the same messages, one commits. The other finds different offsets in the table, drops
    its files and plans again. After a conflict with another kind of writer, such as compaction, only the
    commit is repeated.

    Refused and flagged rows are committed first, so that every refused message is recorded.

    Raises:
        LakeError: the catalog or the store failed, or the commit conflicted too often.
    """
    _keep_offenders(lake, _fresh_ones(lake.table(spec), ready)[0], run)

    def attempt() -> CommitResult:
        table = lake.table(spec)
        good, advanced = _fresh_ones(table, ready)
        taken = {id(one) for one in good}
        stale = tuple(one for one in ready if id(one) not in taken)
        if good and advanced != read_landed_offsets(table):
            checks = merge_checks(check for one in good for check in one.checks)
            counts = {check.name: [check.checked, check.failed] for check in checks}
            text = msgspec.json.encode(counts).decode()
            append_files(
                table,
                [file for one in good for file in one.files],
                {RUN: run, CHECKS: text, OFFSETS: advanced.to_text()},
            )
        return CommitResult(sum(one.rows for one in good), sum(one.rows for one in stale), advanced, stale)

    return retry_on_conflict(lake, f"land {spec.name}", attempt)


def _fresh_ones(table: Table, ready: Sequence[PreparedFiles]) -> tuple[list[PreparedFiles], LandedOffsets]:
    """Return the prepared files that match the landed offsets, and the offsets after them."""
    advanced = read_landed_offsets(table)
    oldest = datetime.now(UTC) - OLDEST_FILES
    good = []
    for one in ready:
        ids = {topic: offsets.topic_id for topic, offsets in one.reached.topics.items()}
        comes_next = all(
            advanced.next(topic, partition, ids.get(topic)) == at
            for (topic, partition), at in one.expects.items()
        )
        if comes_next and one.spec_id == table.metadata.default_spec_id and one.prepared_at > oldest:
            good.append(one)
            advanced = advanced.advanced(one.reached)
    return good, advanced


def _keep_offenders(lake: Lake, ready: Sequence[PreparedFiles], run: str) -> None:
    """Commit refused and flagged rows exactly once.

    Their tables have landed offsets too, so a batch that is prepared again after a crash adds no duplicate.
    """

    def attempt(load: Callable[[], Table], found: list[tuple[pa.Table, LandedOffsets]]) -> CommitResult:
        table = load()
        rows, advanced = new_offenders(found, read_landed_offsets(table))
        if rows.num_rows:
            append(table, rows, {RUN: run, OFFSETS: advanced.to_text()})
        return CommitResult(rows.num_rows, 0, advanced)

    refused = [(one.refused, one.reached) for one in ready if one.refused.num_rows]
    flagged = [(one.flagged, one.reached) for one in ready if one.flagged.num_rows]
    for load, found in ((lake.quarantine, refused), (lake.flagged, flagged)):
        if found:
            retry_on_conflict(lake, "keep messages that break a rule", partial(attempt, load, found))


def reset_landed_offsets(lake: Lake, spec: TableSpec, topic: str) -> bool:
    """Reset the landed offsets of a recreated or truncated topic, so that it is landed from its start.

    Existing rows stay.

    Returns:
        Whether the table had landed the topic.

    Raises:
        LakeError: see `commit_prepared`.
    """

    def attempt(table: Table) -> CommitResult:
        known = read_landed_offsets(table)
        if topic not in known.topics:
            return CommitResult(0, 0, LandedOffsets())
        kept = LandedOffsets({name: at for name, at in known.topics.items() if name != topic})
        append(table, table.schema().as_arrow().empty_table(), {OFFSETS: kept.to_text()})
        return CommitResult(0, 0, known)

    doing = f"reset the landed offsets of {topic}"
    retry_on_conflict(lake, doing, lambda: attempt(lake.quarantine()))
    retry_on_conflict(lake, doing, lambda: attempt(lake.flagged()))
    return bool(retry_on_conflict(lake, doing, lambda: attempt(lake.table(spec))).offsets.topics)


def retry_on_conflict(lake: Lake, doing: str, attempt: Callable[[], CommitResult]) -> CommitResult:
    """Retry a commit while it conflicts with other writers.

    Raises:
        LakeError: see `commit_prepared`.
    """
    from pyiceberg.exceptions import CommitFailedException, CommitStateUnknownException
    from sqlalchemy.exc import OperationalError

    attempts = lake.settings.commit_attempts
    for number in range(1, attempts + 1):
        try:
            return attempt()
        # After an unknown outcome the next attempt reads the table again, so nothing is landed twice.
        except (CommitFailedException, CommitStateUnknownException, OperationalError) as error:
            if number == attempts:
                raise LakeError(
                    f"cannot {doing}: the commit conflicted with other writers {attempts} times: {error}"
                ) from error
            log.info("commit to %s again (%s of %s): %s", doing, number, attempts, error)
            wait = min(_FIRST_WAIT_S * 2**number, _LONGEST_WAIT_S)
            time.sleep(random.uniform(wait / 2, wait))
        except LakeError:
            raise
        except Exception as error:
            raise LakeError(f"cannot {doing}: {type(error).__name__}: {error}") from error
    raise AssertionError("unreachable")
