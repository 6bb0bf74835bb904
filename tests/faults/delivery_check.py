"""Compare the acknowledged messages with the stored ones, without code of the platform.

Two readers: a bare consumer of confluent-kafka, and one written with franz-go, which shares no code with
librdkafka either. A record counts as the message whose key and number it carries.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

from confluent_kafka import Consumer, TopicPartition

FRANZ = Path(__file__).with_name("franz")


class Sent(NamedTuple):
    """A message by its market and its number, which rises by one with each message of the market."""

    symbol: str
    number: int


class Stored(NamedTuple):
    """A stored record."""

    partition: int
    offset: int
    sent: Sent


@dataclass(frozen=True)
class DeliveryFaults:
    """Lost, duplicated and reordered messages."""

    lost: frozenset[Sent]
    duplicated: frozenset[Sent]
    reordered: frozenset[str]
    """Markets in which a record of a lower number comes after one of a higher."""

    @property
    def is_clean(self) -> bool:
        return not (self.lost or self.duplicated or self.reordered)

    def __str__(self) -> str:
        return (
            f"{len(self.lost)} lost {sorted(self.lost)[:5]}, "
            f"{len(self.duplicated)} duplicated {sorted(self.duplicated)[:5]}, "
            f"reordered: {sorted(self.reordered)[:5]}"
        )


def check_delivery(acknowledged: Collection[Sent], stored: Iterable[Stored]) -> DeliveryFaults:
    """Compare. What was not acknowledged may be stored, once and in order, or not."""
    seen: Counter[Sent] = Counter()
    numbers: defaultdict[tuple[int, str], list[int]] = defaultdict(list)
    for record in sorted(stored):
        seen[record.sent] += 1
        numbers[record.partition, record.sent.symbol].append(record.sent.number)
    homes = Counter(symbol for _, symbol in numbers)
    return DeliveryFaults(
        lost=frozenset(set(acknowledged) - seen.keys()),
        duplicated=frozenset(sent for sent, count in seen.items() if count > 1),
        reordered=frozenset(symbol for (_, symbol), found in numbers.items() if found != sorted(found))
        | {symbol for symbol, partitions in homes.items() if partitions > 1},
    )


def read_all(bootstrap: str, topic: str, group: str = "delivery-check") -> list[Stored]:
    """Every record of a topic, read with a bare consumer."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": group,
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "logger": _quiet(),
        }
    )
    try:
        return list(_read(consumer, topic))
    finally:
        consumer.close()


def _read(consumer: Consumer, topic: str) -> Iterable[Stored]:
    partitions = consumer.list_topics(topic, timeout=30).topics[topic].partitions
    left = {}
    for number in partitions:
        low, high = consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=30)
        if high > low:
            left[number] = (low, high)
    consumer.assign([TopicPartition(topic, number, low) for number, (low, _) in left.items()])
    while left:
        records = consumer.consume(5000, 30)
        assert records, f"records of {topic} do not come: {left}"
        for record in records:
            assert record.error() is None, record.error()
            partition, offset, value = record.partition(), record.offset(), record.value()
            assert partition is not None
            assert offset is not None
            assert value is not None
            yield Stored(partition, offset, read_value(value))
            if partition in left and offset + 1 >= left[partition][1]:
                del left[partition]


def read_all_with_franz(bootstrap: str, topic: str, program: Path) -> list[Stored]:
    """Every record of a topic, read with franz-go."""
    done = subprocess.run(
        [program, bootstrap, topic], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    return [Stored(item["partition"], item["offset"], read_value(item["value"].encode())) for item in found]


def read_value(value: bytes) -> Sent:
    """Return the market and the number of a price message."""
    fields = json.loads(value)
    return Sent(fields["symbol"], int(fields["volume24h"]))


@cache
def franz_program() -> Path | str:
    """Return the reader written with franz-go, built once; or why there is none: no Go, or no modules."""
    go = shutil.which("go")
    if go is None:
        return "no Go here: the second reader is not built"
    cache_home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    program = cache_home / "coinstream" / "franz-reader"
    program.parent.mkdir(parents=True, exist_ok=True)
    built = subprocess.run(
        [go, "build", "-o", program, "."], cwd=FRANZ, capture_output=True, text=True, timeout=900, check=False
    )
    if built.returncode != 0:
        return f"the second reader cannot be built here: {built.stderr.strip()[-200:]}"
    return program


def _quiet() -> object:
    import logging

    logger = logging.getLogger("tests.faults.delivery_check")
    logger.addHandler(logging.NullHandler())
    logger.propagate = False
    return logger
