"""Write messages exactly once to PostgreSQL tables.

Each batch is one transaction with its rows, written by COPY, and the next offset. A batch that is delivered
again after a crash is skipped because of that offset.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

import msgspec

from coinstream.consumer import ConsumedMessage
from coinstream.errors import NonRetryableError, SinkError
from coinstream.kafka.records import timestamp_ms_of
from coinstream.messages import MessageType, type_of
from coinstream.sinks.base import columns_of

if TYPE_CHECKING:
    import psycopg

OFFSETS_TABLE: Final = "coinstream_offsets"
_OFFSETS: Final = f"""
CREATE TABLE IF NOT EXISTS {OFFSETS_TABLE} (
    topic text, partition integer, next_offset bigint NOT NULL, PRIMARY KEY (topic, partition)
)"""
_TYPES: Final = {
    "text": "text",
    "float": "double precision",
    "int": "bigint",
    "time": "timestamptz",
    "json": "jsonb",
}
_ACCEPTED: Final = {
    "text": ("text", "character varying"),
    "double precision": ("double precision", "numeric"),
    "integer": ("integer", "bigint"),
    "timestamptz": ("timestamp with time zone",),
    "jsonb": ("jsonb",),
}
"""PostgreSQL's names of the types that hold every value of a column without a change."""
_PLACE: Final = (
    ("topic", "text NOT NULL"),
    ("partition", "integer NOT NULL"),
    ("record_offset", "bigint NOT NULL"),
    ("record_time_ms", "bigint"),
)


class PostgresSink:
    """Write each message type to the table of its name, in the connection's default schema.

    Args:
        target: connection string or URI, for example `postgresql://user@host/database`. Leave the password to
            `PGPASSWORD` or the password file of libpq.

    Raises:
        SinkError: psycopg is not installed, or the database refuses the connection.
    """

    def __init__(self, target: str) -> None:
        self._target = target
        self._lock = threading.Lock()
        self._connection: psycopg.Connection[Any] | None = None
        self._known: set[str] = set()
        try:
            import psycopg
        except ImportError as error:
            raise SinkError(
                "the sink postgres needs the extra: pip install 'coinstream[postgres]'"
            ) from error
        self._psycopg = psycopg
        try:
            self._open()
        except psycopg.Error as error:
            raise SinkError(f"sink postgres: cannot connect: {_reason(error)}") from error

    def write(self, messages: Sequence[ConsumedMessage]) -> None:
        """Store the messages and the offset that they reach, in one transaction.

        Raises:
            SinkError: the database does not answer, or a table has other columns; the batch is retried.
            NonRetryableError: the database refuses the values, or already contains a different message of
                this topic, partition and offset, because the topic was recreated.
        """
        if not messages:
            return
        psycopg = self._psycopg
        with self._lock:
            try:
                connection = self._open()
                with connection.transaction(), connection.cursor() as cursor:
                    self._store(cursor, messages)
            except psycopg.DataError as error:
                self._known.clear()  # a table that this transaction created is rolled back with it
                raise NonRetryableError(f"PostgreSQL refuses the values: {_reason(error)}") from error
            except psycopg.Error as error:
                self._drop()
                raise SinkError(f"sink postgres: {_reason(error)}") from error

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._drop()

    def _open(self) -> psycopg.Connection[Any]:
        if self._connection is None or self._connection.closed:
            connection = self._psycopg.connect(self._target, connect_timeout=10, autocommit=True)
            connection.execute(_OFFSETS)
            self._connection = connection
        return self._connection

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection, self._known = None, set()

    def _store(self, cursor: psycopg.Cursor[Any], messages: Sequence[ConsumedMessage]) -> None:
        topic, partition = messages[0].topic, messages[0].partition
        # The row lock prevents a member that lost the partition from writing concurrently with its successor.
        cursor.execute(
            f"INSERT INTO {OFFSETS_TABLE} VALUES (%s, %s, 0) ON CONFLICT DO NOTHING",  # noqa: S608
            (topic, partition),
        )
        cursor.execute(
            f"SELECT next_offset FROM {OFFSETS_TABLE} WHERE topic = %s AND partition = %s FOR UPDATE",  # noqa: S608
            (topic, partition),
        )
        row = cursor.fetchone()
        reached = row[0] if row else 0
        fresh = [message for message in messages if message.offset >= reached]
        for message in messages[: len(messages) - len(fresh)]:
            self._check_same(cursor, message)
        for kind, run in groupby(fresh, key=lambda message: type_of(message.message)):
            self._copy(cursor, kind, list(run))
        if fresh:
            cursor.execute(
                f"UPDATE {OFFSETS_TABLE} SET next_offset = %s WHERE topic = %s AND partition = %s",  # noqa: S608
                (fresh[-1].offset + 1, topic, partition),
            )

    def _copy(self, cursor: psycopg.Cursor[Any], kind: MessageType, run: Sequence[ConsumedMessage]) -> None:
        from psycopg.types.json import Jsonb

        columns = columns_of(kind)
        self._ensure(cursor, kind)
        names = [name for name, _ in _PLACE] + [column.name for column in columns] + ["unknown"]
        json_names = {column.name for column in columns if column.type == "json"}
        into = ", ".join(f'"{name}"' for name in names)
        with cursor.copy(f'COPY "{kind.name}" ({into}) FROM STDIN') as copy:
            for consumed in run:
                fields = msgspec.structs.asdict(consumed.message)
                values = (
                    Jsonb(msgspec.to_builtins(value)) if name in json_names and value is not None else value
                    for name, value in fields.items()
                )
                unknown = Jsonb(msgspec.to_builtins(dict(consumed.unknown))) if consumed.unknown else None
                copy.write_row((*_place(consumed), *values, unknown))

    def _ensure(self, cursor: psycopg.Cursor[Any], kind: MessageType) -> None:
        if kind.name in self._known:
            return
        fields = [f'"{column.name}" {_TYPES[column.type]}' for column in columns_of(kind)]
        place = [f'"{name}" {spec}' for name, spec in _PLACE]
        key = "PRIMARY KEY (topic, partition, record_offset)"
        spec = ", ".join([*place, *fields, '"unknown" jsonb', key])
        cursor.execute(f'CREATE TABLE IF NOT EXISTS "{kind.name}" ({spec})')
        self._check_columns(cursor, kind)
        self._known.add(kind.name)

    def _check_columns(self, cursor: psycopg.Cursor[Any], kind: MessageType) -> None:
        """Check that a table, which another program may have created, has the columns of its type.

        Raises:
            SinkError: columns are missing, or have another type.
        """
        wanted = {name: spec.removesuffix(" NOT NULL") for name, spec in _PLACE}
        wanted |= {column.name: _TYPES[column.type] for column in columns_of(kind)} | {"unknown": "jsonb"}
        cursor.execute(
            "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute "
            "WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped",
            (f'"{kind.name}"',),
        )
        found = dict(cursor.fetchall())
        wrong = [
            f"{name} is {found[name]} instead of {spec}" if name in found else f"{name} is missing"
            for name, spec in wanted.items()
            if found.get(name) not in _ACCEPTED.get(spec, (spec,))
        ]
        if wrong:
            raise SinkError(
                f"sink postgres: table {kind.name} has other columns than its messages: {', '.join(wrong)}. "
                "Rename the table or change its columns"
            )

    def _check_same(self, cursor: psycopg.Cursor[Any], consumed: ConsumedMessage) -> None:
        kind = type_of(consumed.message)
        self._ensure(cursor, kind)
        cursor.execute(
            f'SELECT record_time_ms FROM "{kind.name}" '  # noqa: S608
            "WHERE topic = %s AND partition = %s AND record_offset = %s",
            (consumed.topic, consumed.partition, consumed.offset),
        )
        row = cursor.fetchone()
        if row is not None and row[0] != timestamp_ms_of(consumed.record):
            raise NonRetryableError(
                f"table {kind.name} holds another message of {consumed.topic}[{consumed.partition}] offset "
                f"{consumed.offset}: the topic was created again. Write it to another database, or delete "
                f"its rows from {kind.name} and {OFFSETS_TABLE}"
            )


def _place(consumed: ConsumedMessage) -> tuple[str, int, int, int]:
    return consumed.topic, consumed.partition, consumed.offset, timestamp_ms_of(consumed.record)


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
