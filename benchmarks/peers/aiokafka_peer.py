"""aiokafka: `getmany`, typed, committed by hand after each round."""

from __future__ import annotations

import asyncio
import sys

from aiokafka import AIOKafkaConsumer
from work import Tally, decode


async def run(bootstrap: str, topic: str, group: str, messages: int) -> None:
    tally = Tally("aiokafka", messages)
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=bootstrap,
        group_id=group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=100,
        max_partition_fetch_bytes=1_048_576,
    )
    await consumer.start()
    while True:
        for records in (await consumer.getmany(timeout_ms=100, max_records=10_000)).values():
            for record in records:
                tally.add(decode(record.value))
        await consumer.commit()


asyncio.run(run(*sys.argv[1:4], int(sys.argv[4])))
