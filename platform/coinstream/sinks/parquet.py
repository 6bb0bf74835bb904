"""Write messages exactly once to Parquet files, on this machine or in an object store.

A file contains one batch of one partition, and its name contains the offsets. Existing file names identify
batches that are delivered again after a crash.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import msgspec
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from coinstream.consumer import ConsumedMessage
from coinstream.errors import NonRetryableError, SinkError
from coinstream.files import whole_file
from coinstream.kafka.records import timestamp_ms_of
from coinstream.messages import MessageType, type_of
from coinstream.sinks.base import columns_of

_NAME: Final = re.compile(r"(\d{20})-(\d{20})\.parquet")
_TYPES: Final = {
    "text": pa.string(),
    "float": pa.float64(),
    "int": pa.int64(),
    "time": pa.timestamp("us", "UTC"),
    "json": pa.string(),
}
_PLACE: Final = (
    pa.field("partition", pa.int32(), nullable=False),
    pa.field("record_offset", pa.int64(), nullable=False),
    pa.field("record_time_ms", pa.int64()),
)


class ParquetSink:
    """Write files below `TARGET/{type}/topic={topic}/partition={partition}/`.

    Args:
        target: a folder, or a URI supported by pyarrow, such as `s3://bucket/quotes?region=eu-central-1`.

    Raises:
        SinkError: the URI is invalid, or the store does not answer.
    """

    def __init__(self, target: str) -> None:
        self._target = target
        self._lock = threading.Lock()
        self._reached: dict[str, int] = {}
        try:
            if "://" in target:
                self._files, self._base = pafs.FileSystem.from_uri(target)
            else:
                self._files, self._base = pafs.LocalFileSystem(), str(Path(target).absolute())
            if not self._base:
                raise ValueError("it names no bucket")
            self._files.get_file_info(self._base)
        except (OSError, ValueError) as error:
            raise SinkError(f"sink parquet: cannot open {target}: {error}") from error

    def write(self, messages: Sequence[ConsumedMessage]) -> None:
        """Store the messages of one partition, one file per message type.

        Raises:
            SinkError: a file cannot be written; the batch is retried.
            NonRetryableError: the files already contain a different message of this topic, partition and
                offset, because the topic was recreated.
        """
        with self._lock:
            for kind, run in groupby(messages, key=lambda message: type_of(message.message)):
                self._write_run(kind, list(run))

    def close(self) -> None:
        """Do nothing: every file is complete when `write` returns."""

    def _write_run(self, kind: MessageType, run: Sequence[ConsumedMessage]) -> None:
        folder = f"{self._base}/{kind.name}/topic={quote(run[0].topic)}/partition={run[0].partition}"
        try:
            reached = self._reached.get(folder)
            if reached is None:
                reached = self._last_offset(folder)
            fresh = [message for message in run if message.offset > reached]
            if len(fresh) < len(run):
                self._check_same(folder, run[: len(run) - len(fresh)])
            if fresh:
                first, last = fresh[0].offset, fresh[-1].offset
                self._store(f"{folder}/{first:020d}-{last:020d}.parquet", _table(kind, fresh))
                reached = last
            self._reached[folder] = reached
        except OSError as error:
            raise SinkError(f"sink parquet: cannot write to {self._target}: {error}") from error

    def _check_same(self, folder: str, again: Sequence[ConsumedMessage]) -> None:
        times: dict[int, int] = {}
        for info in self._files.get_file_info(pafs.FileSelector(folder)):
            name = _NAME.fullmatch(info.base_name)
            if name is not None and int(name[1]) <= again[-1].offset and int(name[2]) >= again[0].offset:
                stored = self._read_places(info.path)
                times.update(zip(*(column.to_pylist() for column in stored.columns), strict=True))
        for consumed in again:
            if times.get(consumed.offset, (now := timestamp_ms_of(consumed.record))) != now:
                raise NonRetryableError(
                    f"{folder} holds another message of {consumed.topic}[{consumed.partition}] offset "
                    f"{consumed.offset}: the topic was created again. Write it to another folder"
                )

    def _read_places(self, path: str) -> pa.Table:
        with self._files.open_input_file(path) as file:
            return pq.ParquetFile(file).read(["record_offset", "record_time_ms"])

    def _last_offset(self, folder: str) -> int:
        found = self._files.get_file_info(pafs.FileSelector(folder, allow_not_found=True))
        names = (_NAME.fullmatch(info.base_name) for info in found)
        return max((int(name[2]) for name in names if name is not None), default=-1)

    def _store(self, path: str, table: pa.Table) -> None:
        buffer = pa.BufferOutputStream()
        pq.write_table(table, buffer, compression="zstd")
        if not isinstance(self._files, pafs.LocalFileSystem):
            # An object becomes visible when its upload is complete.
            with self._files.open_output_stream(path) as stream:
                stream.write(buffer.getvalue())
            return
        wanted = Path(path)
        wanted.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(wanted) as draft, draft.open("wb") as file:
            file.write(buffer.getvalue())
            file.flush()
            os.fsync(file.fileno())
        _sync_folder(wanted.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _table(kind: MessageType, run: Sequence[ConsumedMessage]) -> pa.Table:
    columns = columns_of(kind)
    arrays: list[Any] = [
        [consumed.partition for consumed in run],
        [consumed.offset for consumed in run],
        [timestamp_ms_of(consumed.record) for consumed in run],
    ]
    for column in columns:
        values = [getattr(consumed.message, column.name) for consumed in run]
        arrays.append([_json(value) for value in values] if column.type == "json" else values)
    arrays.append([_json(dict(consumed.unknown)) if consumed.unknown else None for consumed in run])
    fields = [*_PLACE, *(pa.field(column.name, _TYPES[column.type]) for column in columns)]
    schema = pa.schema([*fields, pa.field("unknown", pa.string())])
    return pa.table(
        [pa.array(values, field.type) for values, field in zip(arrays, schema, strict=True)], schema=schema
    )


def _json(value: Any) -> str | None:
    return None if value is None else msgspec.json.encode(value).decode()
