"""FastStream over confluent-kafka: a batch subscriber, its fastest form; commits when the handler returns."""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import Any

from faststream import AckPolicy, FastStream
from faststream.confluent import KafkaBroker
from work import Level1, Tally, decode


async def typed(message: Any) -> list[Level1]:
    """The values of a batch as they are used; without it FastStream makes dictionaries of them."""
    return [decode(record.value()) for record in message.raw_message]


def run(bootstrap: str, topic: str, group: str, messages: int) -> None:
    tally = Tally("faststream", messages)
    # Errors of the handler are only logged, so the log must stay on.
    broker = KafkaBroker(bootstrap, log_level=logging.DEBUG)

    @broker.subscriber(
        topic,
        group_id=group,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=100,
        batch=True,
        max_records=10_000,
        ack_policy=AckPolicy.NACK_ON_ERROR,
        decoder=typed,
    )
    async def handle(batch: list[Any]) -> None:
        for message in batch:
            tally.add(message)

    asyncio.run(FastStream(broker).run())


run(*sys.argv[1:4], int(sys.argv[4]))
