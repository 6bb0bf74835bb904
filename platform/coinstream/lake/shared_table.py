"""Read a table in a task: on a worker, without the catalog and without any credential in the task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.dataset as ds

from coinstream.lake.query import as_dataset
from coinstream.lake.slices import TableTarget
from coinstream.settings import LakeSettings

if TYPE_CHECKING:
    from pyiceberg.table import Table


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
