"""Leaders are killed and too few replicas are left: nothing is lost, and the order of keys holds."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from coinstream.client import RedpandaClient
from coinstream.local_broker import LocalBroker
from coinstream.settings import BrokerSettings
from tests.conftest import TopicFactory
from tests.producer.records import numbers_by_key, quotes, read
from tests.support import wait_until

pytestmark = pytest.mark.system


class Stream:
    """Produces numbered quotes until it is told to stop."""

    def __init__(self, client: RedpandaClient, topic: str) -> None:
        self.sent = 0
        self._client, self._topic = client, topic
        self._stopping = threading.Event()

    def run(self) -> None:
        while not self._stopping.wait(0.002):
            self._client.produce(self._topic, quotes(40, self.sent))
            self.sent += 40

    @contextmanager
    def flowing(self) -> Iterator[None]:
        thread = threading.Thread(target=self.run)
        thread.start()
        try:
            yield
        finally:
            self._stopping.set()
            thread.join()


@pytest.mark.slow
@pytest.mark.parametrize("in_sync", [2, 3])
def test_a_killed_node_costs_no_message_and_no_order(
    cluster3: LocalBroker, topic3: TopicFactory, in_sync: int
) -> None:
    """With 3 replicas wanted in sync nothing is accepted until the node is back; with 2 others take over."""
    topic = topic3("killed", partitions=6, config={"min.insync.replicas": str(in_sync)})
    with RedpandaClient(BrokerSettings(brokers=cluster3.bootstrap)) as client:
        stream = Stream(client, topic)
        with stream.flowing():
            wait_until(lambda: sum(client.delivered.values()) > 1000, what="messages flow")
            cluster3.nodes[0].kill()
            at_kill = stream.sent
            wait_until(lambda: stream.sent > at_kill + 1000, what="messages are taken without the node")
            cluster3.nodes[0].start()
            cluster3.wait_ready()
            before = sum(client.delivered.values())
            wait_until(lambda: sum(client.delivered.values()) > before + 1000, what="messages flow again")
        client.flush(60)
        assert sum(client.delivered.values()) == stream.sent
    by_key = numbers_by_key(read(cluster3.bootstrap, topic, stream.sent))
    for number in range(20):
        arrived = by_key[f"binance-S{number}/USDT".encode()]
        assert list(dict.fromkeys(arrived)) == list(range(number, stream.sent, 20))
