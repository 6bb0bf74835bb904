"""Write messages to systems outside the platform, at least once and in order per key.

A sink is a class with `write` and `close`, registered under a name and run by `coinstream sink run NAME`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from coinstream.client import RedpandaClient
from coinstream.consumer import ConsumedMessage, GroupOptions, GroupReport
from coinstream.sinks.base import JSONL, SINKS, Sink, SinkEntry, open_sink, register_sink

__all__ = [
    "JSONL",
    "PARQUET",
    "POSTGRES",
    "SINKS",
    "Sink",
    "SinkEntry",
    "open_sink",
    "register_sink",
    "run_sink",
]


def run_sink(
    sink: Sink,
    client: RedpandaClient,
    topics: Sequence[str],
    *,
    group: str,
    options: GroupOptions | None = None,
    stop: threading.Event | None = None,
    idle_s: float | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> GroupReport:
    """Write the messages after the group's committed offsets until `stop` is set, then close the sink.

    Args:
        sink: sink to write to.
        client: client of the cluster.
        topics: topics to consume.
        group: name of the consumer group.
        options: options of the consumer group.
        stop: set to stop.
        idle_s: stop after waiting this many seconds for a message; None continues until `stop`.
        on_progress: called several times a second with the number of handled messages.

    Raises:
        CoinstreamError: the group stopped because of an error.
    """
    # Partitions are handled concurrently, but a sink has one file or connection.
    lock = threading.Lock()

    def write(batch: list[ConsumedMessage]) -> None:
        with lock:
            sink.write(batch)

    wanted = replace(options or GroupOptions(), batch=True)
    manager = client.create_consumer_group(group, topics, write, wanted)
    watch = _Idle(idle_s)
    try:
        with manager:
            while not manager.wait(0.1) and not (stop is not None and stop.is_set()):
                report = manager.report()
                if on_progress is not None:
                    on_progress(report.handled)
                # No message can arrive before the member has joined the group and fetched. A slow write, a
                # retry and a dead letter are work.
                is_waiting = report.partitions > 0 and report.unfinished == 0
                if watch.is_over(report.handled, is_waiting=is_waiting):
                    break
    finally:
        sink.close()
    return manager.report()


class _Idle:
    def __init__(self, idle_s: float | None) -> None:
        self._idle_s = idle_s
        self._seen = 0
        self._since = time.monotonic()

    def is_over(self, handled: int, *, is_waiting: bool) -> bool:
        now = time.monotonic()
        if handled != self._seen or not is_waiting:
            self._seen, self._since = handled, now
        return self._idle_s is not None and now - self._since >= self._idle_s


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
