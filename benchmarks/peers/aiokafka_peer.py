"""aiokafka: `send` without waiting and one `flush`; `getmany` and a commit after each round.

It has no sink: rows are written with pyarrow.
"""

from __future__ import annotations

import asyncio
import time

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

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

LIBRARY = "aiokafka"


async def send_all(job: Job) -> float:
    producer = AIOKafkaProducer(
        bootstrap_servers=job.bootstrap,
        enable_idempotence=True,
        compression_type="lz4",
        linger_ms=job.linger_ms,
        max_batch_size=job.batch_bytes,
        max_request_size=job.batch_bytes,
    )
    await producer.start()
    messages = prepared(job)
    started = time.perf_counter()
    sent = [
        await producer.send(
            job.topic, encode(message), key=message.symbol.encode(), timestamp_ms=milliseconds(message)
        )
        for message in messages
    ]
    await producer.flush()
    await asyncio.gather(*sent)
    return job.messages / (time.perf_counter() - started)


async def started_consumer(job: Job) -> AIOKafkaConsumer:
    consumer = AIOKafkaConsumer(
        job.topic,
        bootstrap_servers=job.bootstrap,
        group_id=job.group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=100,
        max_partition_fetch_bytes=1_048_576,
    )
    await consumer.start()
    return consumer


async def read_all(job: Job) -> float:
    tally, consumer = Tally(LIBRARY, job), await started_consumer(job)
    while True:
        for records in (await consumer.getmany(timeout_ms=100, max_records=10_000)).values():
            for record in records:
                tally.add(decode(record.value))
        await consumer.commit()


async def land_all(job: Job) -> float:
    tally, consumer, writer = Tally(LIBRARY, job), await started_consumer(job), RowWriter(job.folder)
    rows = []
    read = 0
    while True:
        for records in (await consumer.getmany(timeout_ms=100, max_records=10_000)).values():
            tally.start()
            rows += [decode(record.value) for record in records]
        if len(rows) >= FILE_ROWS or read + len(rows) >= job.messages:
            writer.write(rows)
            await consumer.commit()
            read += len(rows)
            tally.done(len(rows))
            rows = []


run(
    LIBRARY,
    produce=lambda job: asyncio.run(send_all(job)),
    consume=lambda job: asyncio.run(read_all(job)),
    land=lambda job: asyncio.run(land_all(job)),
)
