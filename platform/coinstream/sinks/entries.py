"""Register the built-in sinks, which are imported when opened."""

from __future__ import annotations

from typing import Final

from coinstream.sinks.base import Sink, SinkEntry, register_sink


def _open_postgres(target: str) -> Sink:
    from coinstream.sinks.postgres import PostgresSink

    return PostgresSink(target)


def _open_parquet(target: str) -> Sink:
    from coinstream.sinks.parquet import ParquetSink

    return ParquetSink(target)


POSTGRES: Final = register_sink(
    SinkEntry(
        "postgres",
        "PostgreSQL tables, exactly once; TARGET is postgresql://user@host/database",
        _open_postgres,
    )
)
PARQUET: Final = register_sink(
    SinkEntry(
        "parquet",
        "Parquet files, exactly once; TARGET is a folder or an address such as s3://bucket/path",
        _open_parquet,
        batch_size=50_000,
    )
)
