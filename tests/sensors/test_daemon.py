"""End to end by Dagster's own daemon: a group stops, an alert and a landing run follow, then the recovery."""

import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from confluent_kafka import Consumer, Producer

from coinstream.local_broker import LocalBroker
from tests.conftest import TopicFactory, topic_factory
from tests.monitoring.webhook import Webhook
from tests.sensors.daemon import daemon as running_daemon
from tests.support import READY_TIMEOUT_S, unique, wait_until

pytestmark = pytest.mark.system

PATIENCE_S = 90.0


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalBroker]:
    """With no other groups: on the session's broker the daemon would first land what other tests left."""
    with LocalBroker(
        tmp_path_factory.mktemp("daemon-broker"), nodes=1, port=0, ready_timeout_s=READY_TIMEOUT_S
    ) as local:
        yield local


@pytest.fixture(scope="module")
def topic(broker: LocalBroker) -> TopicFactory:
    """Return a function that creates topics on that broker."""
    return topic_factory(broker.bootstrap)


@pytest.fixture
def daemon(tmp_path: Path, broker: LocalBroker, hook: Webhook) -> Iterator[dg.DagsterInstance]:
    """Run the daemon with the sensor's default state and yield its instance."""
    environment = {
        "REDPANDA_BROKERS": broker.bootstrap,
        "COINSTREAM_ALERTS": hook.url,
        "COINSTREAM_WATCH_INTERVAL_S": "1",
        "COINSTREAM_LAG_SILENCE_S": "3",
    }
    with running_daemon(tmp_path / "dagster", "tests.sensors.daemon_location", environment) as instance:
        yield instance


def consume(broker: LocalBroker, group: str, topic: str, count: int) -> None:
    """Handle `count` messages, commit, and stop."""
    consumer = Consumer(
        {
            "bootstrap.servers": broker.bootstrap,
            "group.id": group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    consumer.subscribe([topic])
    handled = 0
    deadline = time.monotonic() + PATIENCE_S
    while handled < count:
        assert time.monotonic() < deadline
        handled += len(consumer.consume(count - handled, 0.5))
    consumer.commit(asynchronous=False)
    consumer.close()


def produce(broker: LocalBroker, topic: str, count: int) -> None:
    producer = Producer({"bootstrap.servers": broker.bootstrap})
    for number in range(count):
        producer.produce(topic, f"{number}".encode())
    assert producer.flush(30) == 0


@pytest.mark.slow
def test_a_stopped_consumer(
    daemon: dg.DagsterInstance, broker: LocalBroker, topic: TopicFactory, hook: Webhook
) -> None:
    name, group = topic(partitions=2), unique("group")
    produce(broker, name, 20)
    consume(broker, group, name, 20)
    produce(broker, name, 50)

    def told(kind: str) -> list[dict[str, str]]:
        return [one for one in hook.received if group in one["title"] and one["type"] == kind]

    (alert,) = wait_until(lambda: told("failure"), PATIENCE_S, "the alert arrives")
    assert "has stopped" in alert["title"]
    assert "50 message(s) unhandled" in alert["message"]

    def caught_up() -> list[dg.DagsterRun]:
        mine = dg.RunsFilter(tags={"coinstream/lagging_group": group}, statuses=[dg.DagsterRunStatus.SUCCESS])
        return list(daemon.get_runs(mine))

    (run,) = wait_until(caught_up, PATIENCE_S, "the landing run has ended")
    assert run.tags["dagster/sensor_name"] == "lag_sensor"
    assert run.tags["dagster/run_key"].startswith(f"landing/{group}/{name}/")
    (recovery,) = wait_until(lambda: told("success"), PATIENCE_S, "the recovery arrives")
    assert "keeps up again" in recovery["title"]
    assert (len(told("failure")), len(caught_up())) == (1, 1), "once each"
