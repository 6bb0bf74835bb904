"""A broker that is frozen for 20 seconds and resumed: nothing is lost, the group goes on by itself."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from coinstream.client import RedpandaClient
from coinstream.local_broker import LocalBroker
from coinstream.settings import BrokerSettings, ConsumerSettings
from tests.conftest import topic_factory
from tests.consumer.common import Memory, fill, quote
from tests.support import READY_TIMEOUT_S, unique, wait_until

pytestmark = pytest.mark.system

FROZEN_S = 20


@pytest.mark.slow
def test_a_broker_frozen_and_resumed_loses_nothing(tmp_path: Path) -> None:
    with LocalBroker(tmp_path / "broker", nodes=1, port=0, ready_timeout_s=READY_TIMEOUT_S) as broker:
        name, group = topic_factory(broker.bootstrap)("crypto-level1", partitions=6), unique("group")
        settings = ConsumerSettings(
            offset_reset="earliest", session_timeout_ms=6000, max_poll_interval_ms=10_000
        )
        memory = Memory()
        with RedpandaClient(BrokerSettings(brokers=broker.bootstrap), consumer=settings) as client:
            fill(client, name, 5000)
            with client.create_consumer_group(group, [name], memory.one) as manager:
                wait_until(lambda: memory.total > 100)
                broker.nodes[0].pause()
                frozen = time.monotonic()
                try:
                    # These wait in the client until the broker answers again.
                    client.produce(name, [quote(n, f"S{n % 20}/USDT") for n in range(5000, 6000)])
                    wait_until(lambda: time.monotonic() - frozen > FROZEN_S)
                finally:
                    broker.nodes[0].resume()
                client.flush(90)
                client.produce(name, [quote(n, f"S{n % 20}/USDT") for n in range(6000, 7000)])
                client.flush(90)
                wait_until(lambda: len(memory.numbers) >= 7000, 300, "all is handled")
                manager.raise_error()
                # No other member took over: only uncommitted messages may come twice.
                twice = memory.total - 7000
                print(f"7000 messages, {twice} handled again after {FROZEN_S} s of silence")
        assert set(memory.numbers) == set(range(7000))
