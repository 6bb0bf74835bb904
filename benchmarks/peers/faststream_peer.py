"""FastStream over confluent-kafka: `publish` without waiting, at most 50,000 on the way; a batch subscriber.

That is its fastest form of each. It commits when the handler returns. It has no sink: the handler
writes its rows with pyarrow before it returns.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

from faststream import AckPolicy, FastStream
from faststream.confluent import KafkaBroker

from benchmarks.peers.work import Job, Level1, RowWriter, Tally, decode, encode, milliseconds, prepared, run

LIBRARY = "faststream"
MOST_ON_THE_WAY = 50_000


async def send_all(job: Job) -> float:
    broker = KafkaBroker(
        job.bootstrap,
        compression_type="lz4",
        linger_ms=job.linger_ms,
        enable_idempotence=True,
        partitioner="murmur2_random",
        config={"batch.size": job.batch_bytes},
        log_level=logging.ERROR,
    )
    async with broker:
        messages = prepared(job)
        started = time.perf_counter()
        waiting: list[Any] = []
        for message in messages:
            waiting.append(
                await broker.publish(
                    encode(message),
                    job.topic,
                    key=message.symbol.encode(),
                    timestamp_ms=milliseconds(message),
                    no_confirm=True,
                )
            )
            if len(waiting) >= MOST_ON_THE_WAY:
                half = len(waiting) // 2
                await asyncio.gather(*waiting[:half])
                del waiting[:half]
        await asyncio.gather(*waiting)
        return job.messages / (time.perf_counter() - started)


def subscribe(job: Job, tally: Tally, work: Callable[[list[Any]], None]) -> float:
    async def typed(message: Any) -> list[Level1]:
        # Without this FastStream makes dictionaries of the values.
        tally.start()
        return [decode(record.value()) for record in message.raw_message]

    # Errors of the handler are only logged, so the log must stay on.
    broker = KafkaBroker(job.bootstrap, log_level=logging.DEBUG)

    @broker.subscriber(
        job.topic,
        group_id=job.group,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=100,
        batch=True,
        max_records=10_000,
        ack_policy=AckPolicy.NACK_ON_ERROR,
        decoder=typed,
    )
    async def handle(batch: list[Any]) -> None:
        work(batch)

    asyncio.run(FastStream(broker).run())
    raise RuntimeError("it stopped before all messages were there")


def read_all(job: Job) -> float:
    tally = Tally(LIBRARY, job)

    def work(batch: list[Any]) -> None:
        for message in batch:
            tally.add(message)

    return subscribe(job, tally, work)


def land_all(job: Job) -> float:
    tally, writer = Tally(LIBRARY, job), RowWriter(job.folder)

    def work(batch: list[Any]) -> None:
        writer.write(batch)
        tally.done(len(batch))

    return subscribe(job, tally, work)


run(LIBRARY, produce=lambda job: asyncio.run(send_all(job)), consume=read_all, land=land_all)
