"""Groups, messages and commits for the sensors' tests, and the pieces that a tick needs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from coinstream.local_broker import LocalBroker
from resources.admin import AdminResource
from resources.alerts import AlertsResource
from tests.monitoring.webhook import Webhook, webhook

UI = "http://ui.example:3000"
Fill = Callable[[str, int, float], None]
Commit = Callable[[str, str, int], None]


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Webhook]:
    """Yield a webhook that the alerts go to."""
    with webhook() as running:
        monkeypatch.setenv("COINSTREAM_ALERTS", running.url)
        yield running


@pytest.fixture
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test(temp_dir=str(tmp_path_factory.mktemp("dagster"))) as made:
        yield made


@pytest.fixture
def resources(broker: LocalBroker, home: Path) -> dict[str, object]:
    return {"admin": AdminResource(brokers=broker.bootstrap), "alerts": AlertsResource(ui_url=UI)}


@pytest.fixture
def fill(broker: LocalBroker) -> Fill:
    """`fill(topic, count, age_s)`: messages of that age on partition 0."""

    def send(topic: str, count: int, age_s: float = 0.0) -> None:
        producer = Producer({"bootstrap.servers": broker.bootstrap})
        at_ms = int((time.time() - age_s) * 1000)
        for _ in range(count):
            producer.produce(topic, b"x", partition=0, timestamp=at_ms)
            producer.poll(0)
        assert producer.flush(60) == 0

    return send


@pytest.fixture
def commit(broker: LocalBroker) -> Commit:
    def send(group: str, topic: str, offset: int) -> None:
        consumer = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": group})
        consumer.commit(offsets=[TopicPartition(topic, 0, offset)], asynchronous=False)
        consumer.close()

    return send
