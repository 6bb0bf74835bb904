"""Rows and the offsets they come from, in one commit; conflicts with other writers."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

import pyarrow as pa

from coinstream.errors import LakeError
from coinstream.lake.batch import Batch, Mask
from coinstream.lake.data_files import append
from coinstream.lake.landed_offsets import OFFSETS, LandedOffsets, read_landed_offsets
from coinstream.lake.schemas import INGESTED, TIME, TableSpec
from coinstream.lake.store import Lake

if TYPE_CHECKING:
    from pyiceberg.table import Table

log = logging.getLogger("coinstream.lake")

_FIRST_WAIT_S: Final = 0.02
_LONGEST_WAIT_S: Final = 1.0


@dataclass(frozen=True)
class CommitResult:
    """What a commit did: rows added, rows that another writer had landed before, and how far the table is."""

    rows: int
    duplicates: int
    positions: LandedOffsets


def commit_batch(
    lake: Lake, batch: Batch, wanted: Mask, ingested: datetime, properties: Mapping[str, str]
) -> CommitResult:
    """Append the wanted rows that are not landed yet, with the offsets reached, in one snapshot.

    Of two writers that land the same messages one commits; the other finds the table changed, reads
    how far it is now and drops what is there already.

    Raises:
        LakeError: the catalog or the store fails, or other writers were faster too many times.
    """

    def attempt() -> CommitResult:
        table = lake.table(batch.spec)
        landed = read_landed_offsets(table)
        advanced = landed.advanced(batch.reached)
        if advanced == landed:
            return CommitResult(0, int(wanted.sum()), landed)
        fresh = wanted & batch.beyond(landed, batch.topic_ids)
        rows = table_rows(batch, fresh, ingested)
        append(table, rows, {**properties, OFFSETS: advanced.to_text()})
        return CommitResult(rows.num_rows, int(wanted.sum()) - rows.num_rows, advanced)

    return retry_on_conflict(lake, f"land {batch.spec.name}", attempt)


def reset_landed_offsets(lake: Lake, spec: TableSpec, topic: str) -> bool:
    """Let the next landing begin a topic from its beginning; whether the table knew the topic.

    For a topic that was recreated or truncated under its name. Rows that are there stay.

    Raises:
        LakeError: as `commit_batch`.
    """

    def attempt(table: Table) -> CommitResult:
        known = read_landed_offsets(table)
        if topic not in known.topics:
            return CommitResult(0, 0, LandedOffsets())
        kept = LandedOffsets({name: at for name, at in known.topics.items() if name != topic})
        append(table, table.schema().as_arrow().empty_table(), {OFFSETS: kept.to_text()})
        return CommitResult(0, 0, known)

    doing = f"forget how far {topic} is landed"
    for load in (lake.quarantine, lake.flagged):
        retry_on_conflict(lake, doing, lambda load=load: attempt(load()))  # type: ignore[misc]
    return bool(retry_on_conflict(lake, doing, lambda: attempt(lake.table(spec))).positions.topics)


def retry_on_conflict(lake: Lake, doing: str, attempt: Callable[[], CommitResult]) -> CommitResult:
    """Attempt a commit until no other writer comes between.

    Raises:
        LakeError: as `commit_batch`.
    """
    from pyiceberg.exceptions import CommitFailedException, CommitStateUnknownException
    from sqlalchemy.exc import OperationalError

    attempts = lake.settings.commit_attempts
    for number in range(1, attempts + 1):
        try:
            return attempt()
        # After an unknown check the next attempt reads what the table says, so nothing is landed twice.
        except (CommitFailedException, CommitStateUnknownException, OperationalError) as error:
            if number == attempts:
                raise LakeError(
                    f"cannot {doing}: other writers were faster {attempts} times: {error}"
                ) from error
            log.info("commit to %s again (%s of %s): %s", doing, number, attempts, error)
            wait = min(_FIRST_WAIT_S * 2**number, _LONGEST_WAIT_S)
            time.sleep(random.uniform(wait / 2, wait))
        except LakeError:
            raise
        except Exception as error:
            raise LakeError(f"cannot {doing}: {type(error).__name__}: {error}") from error
    raise AssertionError("unreachable")


def table_rows(batch: Batch, mask: Mask, ingested: datetime) -> pa.Table:
    """The chosen rows as the table has them."""
    rows = batch.rows if mask.all() else batch.rows.filter(pa.array(mask))
    stamp = pa.repeat(pa.scalar(ingested, TIME), rows.num_rows)
    rows = rows.append_column(INGESTED, stamp)
    return pa.Table.from_arrays(rows.columns, schema=batch.spec.schema)
