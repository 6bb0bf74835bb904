"""Recover tables from the warehouse after the catalog was lost.

The metadata file of each commit lists all data files of an Iceberg table and contains the landed offsets. A
lost catalog therefore loses neither rows nor offsets, and landing continues exactly once.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from coinstream.errors import LakeError
from coinstream.lake.store import Lake, wrap_errors
from coinstream.lake.warehouse import MetadataFile, Warehouse

if TYPE_CHECKING:
    from pyiceberg.table import StaticTable


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
