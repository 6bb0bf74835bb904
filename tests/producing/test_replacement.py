"""A producer that fails fatally is replaced; nothing is lost and the order of keys holds."""

from __future__ import annotations

import pytest

from coinstream.client import RedpandaClient
from coinstream.local_broker import LocalBroker
from coinstream.settings import BrokerSettings
from tests.conftest import TopicFactory
from tests.producing.records import numbers_by_key, quotes, read
from tests.support import wait_until


@pytest.mark.slow
def test_producers_that_fail_for_want_of_replicas_are_replaced_in_order(
    cluster3: LocalBroker, topic3: TopicFactory, caplog: pytest.LogCaptureFixture
) -> None:
    topic = topic3("replaced", partitions=6, config={"min.insync.replicas": "3"})
    sent = 0

    def more(client: RedpandaClient, count: int) -> None:
        nonlocal sent
        client.produce(topic, quotes(count, sent))
        sent += count

    with RedpandaClient(BrokerSettings(brokers=cluster3.bootstrap)) as client:
        more(client, 500)
        client.flush()
        # Two of three replicas are too few here: librdkafka gives up after its retries, which is fatal.
        cluster3.nodes[0].terminate()
        cluster3.nodes[0].wait()
        more(client, 1500)
        wait_until(lambda: "replacing it" in caplog.text, what="a producer is replaced")
        more(client, 500)
        cluster3.nodes[0].start()
        more(client, 500)
        client.flush(90)
        assert sum(client.delivered.values()) == sent
    by_key = numbers_by_key(read(cluster3.bootstrap, topic, sent))
    assert sorted(number for numbers in by_key.values() for number in numbers) == list(range(sent))
    for key, numbers in by_key.items():
        assert numbers == sorted(numbers), key
