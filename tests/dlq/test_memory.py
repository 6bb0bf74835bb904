"""`dlq list` and `dlq replay` hold a batch of dead letters in memory, and not all of them."""

from __future__ import annotations

import os
import random
import subprocess
import sys

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from coinstream.settings import BrokerSettings
from tests.conftest import TopicFactory

pytestmark = pytest.mark.system

COUNT, SIZE = 100_000, 4_096
LIMIT_KB = 64 * 1024
_RUN = """
import atexit, sys

def report():
    with open("/proc/self/status") as status:
        peak = next(line for line in status if line.startswith("VmHWM"))
    print(peak.split()[1], file=sys.stderr)

atexit.register(report)
from coinstream.cli import main
main(sys.argv[1:])
"""


def peak_kb(brokers: BrokerSettings, *words: str) -> int:
    """Run a command and return the most memory it had."""
    done = subprocess.run(
        [sys.executable, "-c", _RUN, "dlq", *words, "--json"],
        env=os.environ | {"REDPANDA_BROKERS": brokers.brokers},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return int(done.stderr.split()[-1])


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_does_not_grow_with_the_dead_letters(
    broker_settings: BrokerSettings, topic: TopicFactory
) -> None:
    origin = topic("memory")
    name = topic("memory", partitions=3)
    dlq_name = f"{name}.dlq"
    admin = AdminClient({"bootstrap.servers": broker_settings.brokers})
    admin.create_topics([NewTopic(dlq_name, 3)])[dlq_name].result(30)
    least = peak_kb(broker_settings, "list", name)
    producer = Producer({"bootstrap.servers": broker_settings.brokers})
    value = random.Random(1).randbytes(SIZE)
    for number in range(COUNT):
        while True:
            try:
                producer.produce(dlq_name, value, b"%d" % number, headers=[("dlq-error", b"ValueError: no")])
                break
            except BufferError:
                producer.poll(0.1)
    assert producer.flush(120) == 0
    assert peak_kb(broker_settings, "list", name, "--limit", "1") - least < LIMIT_KB
    assert peak_kb(broker_settings, "replay", name, "--to", origin) - least < LIMIT_KB
    assert peak_kb(broker_settings, "list", name, "--limit", "1") - least < LIMIT_KB
