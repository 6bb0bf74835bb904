"""confluent-kafka by hand: the reference. The loops that one writes for speed, without safety around them.

Producing: no callback, a poll every 500 messages, one flush. Consuming: as many as are there, typed,
committed without waiting after each round. It has no sink: rows are written with pyarrow.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from confluent_kafka import Consumer, Producer

from benchmarks.peers.work import (
    FILE_ROWS,
    Job,
    RowWriter,
    Tally,
    decode,
    encode,
    milliseconds,
    prepared,
    run,
)

LIBRARY = "confluent-kafka"


def send_all(job: Job) -> float:
    producer = Producer(
        {
            "bootstrap.servers": job.bootstrap,
            "enable.idempotence": True,
            "compression.type": "lz4",
            "partitioner": "murmur2_random",
            "linger.ms": job.linger_ms,
            "batch.size": job.batch_bytes,
            "batch.num.messages": 100_000,
        }
    )
    messages = prepared(job)
    started = time.perf_counter()
    for number, message in enumerate(messages):
        key, at_ms = message.symbol.encode(), milliseconds(message)
        while True:
            try:
                producer.produce(job.topic, encode(message), key, -1, None, None, at_ms)
                break
            except BufferError:
                producer.poll(0.01)
        if not number % 500:
            producer.poll(0)
    if left := producer.flush(120):
        raise RuntimeError(f"{left} messages were not acknowledged")
    return job.messages / (time.perf_counter() - started)


def rounds(job: Job) -> Iterator[tuple[Consumer, list[Any]]]:
    consumer = Consumer(
        {
            "bootstrap.servers": job.bootstrap,
            "group.id": job.group,
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "fetch.wait.max.ms": 100,
        }
    )
    consumer.subscribe([job.topic])
    while True:
        first = consumer.poll(0.1)
        if first is not None:
            yield consumer, [first, *consumer.consume(10_000, 0)]


def read_all(job: Job) -> float:
    tally = Tally(LIBRARY, job)
    for consumer, records in rounds(job):
        for record in records:
            tally.add(decode(record.value()))
        consumer.commit(asynchronous=True)
    raise AssertionError


def land_all(job: Job) -> float:
    tally, writer = Tally(LIBRARY, job), RowWriter(job.folder)
    rows: list[Any] = []
    read = 0
    for consumer, records in rounds(job):
        tally.start()
        rows += [decode(record.value()) for record in records]
        if len(rows) >= FILE_ROWS or read + len(rows) >= job.messages:
            writer.write(rows)
            consumer.commit(asynchronous=True)
            read += len(rows)
            tally.done(len(rows))
            rows = []
    raise AssertionError


run(LIBRARY, produce=send_all, consume=read_all, land=land_all)
