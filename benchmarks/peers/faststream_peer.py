"""FastStream over confluent-kafka: a batch subscriber, its fastest form; commits when the handler returns."""

from __future__ import annotations

import asyncio
import sys

from faststream import AckPolicy, FastStream
from faststream.confluent import KafkaBroker
from work import Tally, decode


def run(bootstrap: str, topic: str, group: str, messages: int) -> None:
    tally = Tally("faststream", messages)
    broker = KafkaBroker(bootstrap, logger=None)

    @broker.subscriber(
        topic,
        group_id=group,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=100,
        batch=True,
        max_records=10_000,
        ack_policy=AckPolicy.NACK_ON_ERROR,
    )
    async def handle(values: list[bytes]) -> None:
        for value in values:
            tally.add(decode(value))

    asyncio.run(FastStream(broker).run())


run(*sys.argv[1:4], int(sys.argv[4]))
