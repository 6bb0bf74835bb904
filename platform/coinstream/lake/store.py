"""Open the catalog and the tables on any catalog and object store supported by pyiceberg."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import pyarrow as pa

from coinstream.errors import LakeError
from coinstream.files import private_folder
from coinstream.lake.schemas import FLAGGED, QUARANTINE, QUARANTINE_SCHEMA, TIME, TableSpec, spec_named
from coinstream.messages import MESSAGE_TYPES
from coinstream.settings import HomeSettings, LakeSettings

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.schema import Schema
    from pyiceberg.table import Table

    from coinstream.lake.warehouse import Warehouse

T = TypeVar("T")

# pyiceberg retries a failed append by adding the same rows after another writer's commit. Two landings of one
# topic would then both land their rows, so conflicts must be raised.
_NO_BLIND_RETRY: Final = {"commit.retry.num-retries": "0"}
_PROPERTIES: Final = {
    **_NO_BLIND_RETRY,
    "write.parquet.compression-codec": "zstd",
    # A dictionary of at most 16,384 decimals: prices repeat, and columns that rarely repeat give up early.
    "write.parquet.dict-size-bytes": "262144",
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "20",
}
_CREATE_ATTEMPTS: Final = 8
_CATALOG_FILE: Final = "catalogue.db"
"""File of the default catalog in the folder of the lake."""
FILE_IO: Final = "coinstream.lake.warehouse.FileIO"


class Lake:
    """Tables of the lake. The catalog is opened at first use.

    Raises:
        LakeError: from every method, if the catalog or a table cannot be accessed.
    """

    def __init__(self, settings: LakeSettings | None = None, home: HomeSettings | None = None) -> None:
        self.settings = settings or LakeSettings()
        self.folder = (home or HomeSettings()).home / "lake"
        self._catalog: Catalog | None = None

    @property
    def catalog(self) -> Catalog:
        """Return the Iceberg catalog."""
        if self._catalog is None:
            self._catalog = wrap_errors(self._open, "open the lake's catalog")
        return self._catalog

    def identifier(self, name: str) -> str:
        """Return the full name of a table."""
        return f"{self.settings.namespace}.{name}"

    def table(self, spec: TableSpec) -> Table:
        """Return the current table of a message type; create or widen it if necessary."""
        return self._ensured(spec.name, spec.schema, spec.event_time)

    def quarantine(self) -> Table:
        """Return the table of refused messages."""
        return self._ensured(QUARANTINE, QUARANTINE_SCHEMA, None)

    def flagged(self) -> Table:
        """Return the table of stored messages that fail a warning rule."""
        return self._ensured(FLAGGED, QUARANTINE_SCHEMA, None)

    def other(self, name: str, schema: pa.Schema) -> Table:
        """Return a table without messages; create it if it does not exist."""
        return self._ensured(name, schema, None)

    def find(self, name: str) -> Table | None:
        """Return a table, or None if it does not exist."""
        if self._is_new():
            return None
        from pyiceberg.exceptions import NoSuchTableError

        catalog = self.catalog

        def load() -> Table | None:
            try:
                return catalog.load_table(self.identifier(name))
            except NoSuchTableError:
                return None

        return wrap_errors(load, f"load table {name}")

    def names(self) -> list[str]:
        """Return the names of existing tables."""
        catalog = self.catalog
        found = wrap_errors(lambda: catalog.list_tables(self.settings.namespace), "list the tables")
        return sorted(identifier[-1] for identifier in found)

    def warehouse(self) -> Warehouse:
        """Return the warehouse with the files of the tables."""
        # Imported here: pyiceberg takes time that `coinstream --help` does not have.
        from coinstream.lake.warehouse import Warehouse

        address = f"{self._warehouse_address()}/{self.settings.namespace}"
        properties = self.catalog.properties
        return wrap_errors(lambda: Warehouse(address, properties), "reach the warehouse")

    def _is_new(self) -> bool:
        """Return whether the default catalog does not exist yet, without the slow import of pyiceberg."""
        chosen = self.settings
        is_default = chosen.catalog_uri is None and chosen.catalog_type == "sql" and not chosen.properties
        return is_default and not (self.folder / _CATALOG_FILE).exists()

    def _warehouse_address(self) -> str:
        chosen = self.settings.warehouse
        return (self.folder / "warehouse").as_uri() if chosen is None else _as_address(chosen).rstrip("/")

    def _open(self) -> Catalog:
        from pyiceberg.catalog import load_catalog

        chosen = self.settings
        secret = chosen.catalog_uri
        if secret is None or chosen.warehouse is None:
            private_folder(self.folder)
        own = _sqlite_address(self.folder / _CATALOG_FILE)
        uri = own if secret is None else secret.get_secret_value()
        given = {
            "type": chosen.catalog_type,
            "uri": uri,
            "warehouse": self._warehouse_address(),
            "py-io-impl": FILE_IO,
        }
        catalog = load_catalog("coinstream", **{**given, **chosen.properties})
        catalog.create_namespace_if_not_exists(chosen.namespace)
        return catalog

    def _ensured(self, name: str, schema: pa.Schema, event_time: str | None) -> Table:
        table = self.find(name) or self._refuse_orphaned(name) or self._create(name, schema, event_time)
        if name == QUARANTINE and "landed" in table.schema().column_names:
            table = wrap_errors(lambda: _renamed_quarantine(table), f"change the columns of {name}")
        known = {field.name for field in table.schema().fields}
        missing = [field for field in schema if field.name not in known]
        if missing or table.properties.get("commit.retry.num-retries") != "0":
            table = wrap_errors(lambda: _widened(table, missing), f"widen table {name}")
        return table

    def _refuse_orphaned(self, name: str) -> Table | None:
        """Refuse to create a table whose files are in the warehouse, because queries would not see them."""
        versions = self.warehouse().versions(name)
        # The first version may belong to another process that is creating the table.
        if not versions or versions[0].version == 0:
            return None
        found = self.find(name)
        if found is None:
            raise LakeError(
                f"table {name} is in {self._warehouse_address()} but not in the catalog, which was lost or "
                "is another one (COINSTREAM_LAKE_CATALOG_URI). `coinstream lake recover` brings it back; "
                "if you have dropped the table, remove its folder too"
            )
        return found

    def _create(self, name: str, schema: pa.Schema, event_time: str | None) -> Table:
        from pyiceberg.exceptions import TableAlreadyExistsError
        from pyiceberg.partitioning import UNPARTITIONED_PARTITION_SPEC, PartitionField, PartitionSpec
        from pyiceberg.transforms import DayTransform, IdentityTransform

        def create() -> Table:
            plain = self.catalog
            numbered = _iceberg(schema)
            spec = UNPARTITIONED_PARTITION_SPEC
            if event_time is not None:
                day = numbered.find_field(event_time).field_id
                exchange = numbered.find_field("exchange_id").field_id
                spec = PartitionSpec(
                    PartitionField(day, 1000, DayTransform(), "day"),
                    PartitionField(exchange, 1001, IdentityTransform(), "exchange"),
                )
            try:
                return plain.create_table(
                    self.identifier(name), numbered, partition_spec=spec, properties=_PROPERTIES
                )
            except TableAlreadyExistsError:
                return plain.load_table(self.identifier(name))

        return wrap_errors(create, f"create table {name}")


def known_specs() -> list[TableSpec]:
    """Return the tables of all message types."""
    return [spec_named(name) for name in MESSAGE_TYPES]


def wrap_errors(call: Callable[[], T], doing: str) -> T:
    """Run a call of the catalog and translate its errors.

    A call is retried if a SQLite catalog is busy, or if another process creates the same entry too.

    Raises:
        LakeError: the call failed; the message contains `doing`.
    """
    from pyiceberg.exceptions import CommitFailedException
    from sqlalchemy.exc import IntegrityError, OperationalError

    for attempt in range(_CREATE_ATTEMPTS):
        try:
            return call()
        except LakeError:
            raise
        except (CommitFailedException, IntegrityError, OperationalError) as error:
            if attempt + 1 == _CREATE_ATTEMPTS:
                raise LakeError(f"cannot {doing}: {_line(error)}") from error
            time.sleep(0.05 * (attempt + 1))
        except Exception as error:
            raise LakeError(f"cannot {doing}: {_line(error)}. Check COINSTREAM_LAKE_*.") from error
    raise AssertionError("unreachable")


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".partition("\n")[0]


def _sqlite_address(path: Path) -> str:
    """Return the URL of an SQLite file with a quoted path."""
    from sqlalchemy import URL

    address: str = URL.create("sqlite", database=str(path), query={"timeout": "30"}).render_as_string()
    return address


def _as_address(warehouse: str) -> str:
    return warehouse if "://" in warehouse else Path(warehouse).expanduser().absolute().as_uri()


def _iceberg(schema: pa.Schema) -> Schema:
    """Return the schema with field ids, which partition specs refer to."""
    from pyiceberg.schema import Schema
    from pyiceberg.types import NestedField

    fields = []
    nested = itertools.count(len(schema) + 1)
    for number, field in enumerate(schema, start=1):
        kind = _iceberg_type(field.type, nested)
        fields.append(NestedField(number, field.name, kind, required=not field.nullable))
    return Schema(*fields)


def _iceberg_type(kind: pa.DataType, nested: Iterator[int]) -> Any:
    """Return the Iceberg type of a column; `nested` gives the field ids of the elements of lists."""
    from pyiceberg import types

    if pa.types.is_list(kind):
        return types.ListType(next(nested), _iceberg_type(kind.value_type, nested), element_required=False)
    if pa.types.is_decimal(kind):
        return types.DecimalType(kind.precision, kind.scale)
    plain = {
        pa.string(): types.StringType(),
        pa.binary(): types.BinaryType(),
        pa.bool_(): types.BooleanType(),
        pa.int32(): types.IntegerType(),
        pa.float64(): types.DoubleType(),
        pa.int64(): types.LongType(),
        TIME: types.TimestamptzType(),
    }
    return plain[kind]


def _renamed_quarantine(table: Table) -> Table:
    """Return a quarantine of an earlier release with the current columns."""
    table.refresh()
    if "landed" in table.schema().column_names:
        with table.update_schema(allow_incompatible_changes=True) as update:
            update.rename_column("landed", "stored")
            update.update_column("record_timestamp", required=False)
    return table


def _widened(table: Table, missing: list[pa.Field]) -> Table:
    table.refresh()
    known = {field.name for field in table.schema().fields}
    # Existing rows have no value for a new column, so it cannot be required.
    wanted = pa.schema([field.with_nullable(True) for field in missing if field.name not in known])
    with table.transaction() as change:
        change.set_properties(_NO_BLIND_RETRY)
        if len(wanted):
            with change.update_schema() as update:
                update.union_by_name(wanted)
    return table
