"""Quix Streams: its producer; a typed deserializer and one step per message; its own sink of Parquet files.

It commits once a second, the sink every 50,000 messages. (Its Iceberg sink wants AWS Glue.)
"""

from __future__ import annotations

import time
from typing import Any

import msgspec
from quixstreams import Application
from quixstreams.models.serializers import Deserializer
from quixstreams.sinks import SinkBatch
from quixstreams.sinks.community.file.formats import ParquetFormat
from quixstreams.sinks.community.file.local import LocalFileSink

from benchmarks.peers.work import FILE_ROWS, Job, Tally, decode, encode, milliseconds, prepared, run

LIBRARY = "quixstreams"


class Typed(Deserializer):
    """The value as a `Level1`."""

    def __call__(self, value: bytes, ctx: Any) -> Any:
        return decode(value)


class TypedRow(Deserializer):
    """The value checked as a `Level1`, and as the dictionary that sinks take."""

    def __init__(self, tally: Tally) -> None:
        super().__init__()
        self._tally = tally

    def __call__(self, value: bytes, ctx: Any) -> Any:
        self._tally.start()
        return msgspec.structs.asdict(decode(value))


class CountingSink(LocalFileSink):
    """Their sink; reports written messages to the tally."""

    def __init__(self, tally: Tally) -> None:
        super().__init__(directory="rows", format=ParquetFormat(compression="zstd"))
        self._tally = tally

    def write(self, batch: SinkBatch) -> None:
        super().write(batch)
        self._tally.done(batch.size)


def application(job: Job, **options: Any) -> Application:
    return Application(
        job.bootstrap,
        consumer_group=job.group,
        auto_offset_reset="earliest",
        auto_create_topics=False,
        loglevel="ERROR",
        consumer_extra_config={"fetch.wait.max.ms": 100},
        producer_extra_config={
            "compression.type": "lz4",
            "linger.ms": job.linger_ms,
            "batch.size": job.batch_bytes,
            "batch.num.messages": 100_000,
        },
        **options,
    )


def send_all(job: Job) -> float:
    with application(job).get_producer() as producer:
        messages = prepared(job)
        started = time.perf_counter()
        for message in messages:
            producer.produce(
                job.topic, encode(message), message.symbol.encode(), timestamp=milliseconds(message)
            )
        if left := producer.flush(120):
            raise RuntimeError(f"{left} messages were not acknowledged")
        return job.messages / (time.perf_counter() - started)


def read_all(job: Job) -> float:
    tally, app = Tally(LIBRARY, job), application(job, commit_interval=1.0)
    frame = app.dataframe(app.topic(job.topic, value_deserializer=Typed()))
    frame.update(tally.add)
    app.run(frame)
    raise RuntimeError("it stopped before all messages were there")


def land_all(job: Job) -> float:
    tally = Tally(LIBRARY, job)
    app = application(job, commit_interval=5.0, commit_every=min(FILE_ROWS, job.messages))
    frame = app.dataframe(app.topic(job.topic, value_deserializer=TypedRow(tally)))
    frame.sink(CountingSink(tally))
    app.run(frame)
    raise RuntimeError("it stopped before all messages were there")


run(LIBRARY, produce=send_all, consume=read_all, land=land_all)
