"""Test that the monitor sets every gauge from a real cluster and leaves no stale series."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from kafka.admin import KafkaAdminClient

from coinstream.local_broker import LocalBroker
from coinstream.monitoring.broker_requests import log_dirs_config, topic_sizes
from coinstream.monitoring.metrics import Metrics
from coinstream.monitoring.monitor import Monitor
from coinstream.settings import BrokerSettings
from tests.conftest import TopicFactory
from tests.monitoring.test_metrics import parse, scrape
from tests.support import unique, wait_until

ROOT = Path(__file__).parents[2]


def fill(broker: LocalBroker, topic: str, count: int) -> None:
    producer = Producer({"bootstrap.servers": broker.bootstrap})
    for _ in range(count):
        producer.produce(topic, b"x" * 100, partition=0)
    assert producer.flush(30) == 0


def commit(broker: LocalBroker, group: str, topic: str, offset: int) -> None:
    consumer = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": group})
    consumer.commit(offsets=[TopicPartition(topic, 0, offset)], asynchronous=False)
    consumer.close()


def value(samples: dict[str, list[tuple[dict[str, str], float]]], name: str, **labels: str) -> float | None:
    found = [shown for has, shown in samples.get(name, []) if labels.items() <= has.items()]
    assert len(found) <= 1
    return found[0] if found else None


def test_every_gauge_of_the_specification(
    broker: LocalBroker, broker_settings: BrokerSettings, topic: TopicFactory
) -> None:
    name, group, metrics = topic(partitions=2), unique("group"), Metrics()
    monitor = Monitor(broker_settings, metrics)
    assert monitor.measure()
    fill(broker, name, 50)
    commit(broker, group, name, 20)
    assert monitor.measure()
    _, samples = scrape(metrics)
    place = {"topic": name, "partition": "0", "consumer_group": group}
    assert value(samples, "redpanda_consumer_lag", **place) == 30
    assert value(samples, "redpanda_consumer_lag", **(place | {"partition": "1"})) == 0
    assert (value(samples, "redpanda_consumer_lag_seconds", **place) or -1) > 0
    assert value(samples, "redpanda_consumer_status", **place, status="ok") == 1
    assert value(samples, "redpanda_topic_partitions", topic=name) == 2
    assert (value(samples, "redpanda_topic_message_rate", topic=name) or 0) > 0
    assert value(samples, "redpanda_cluster_brokers_alive") == 1
    assert value(samples, "redpanda_cluster_leaderless_partitions") == 0
    assert value(samples, "coinstream_monitor_last_success_timestamp_seconds") is not None
    assert not any(labels["topic"].startswith("__") for labels, _ in samples["redpanda_topic_partitions"])


def test_the_size_is_what_the_brokers_hold(
    broker: LocalBroker, broker_settings: BrokerSettings, topic: TopicFactory
) -> None:
    name = topic()
    before = topic_sizes(broker_settings)[name]
    fill(broker, name, 1_000)
    grown = topic_sizes(broker_settings)[name] - before
    assert grown >= 100_000


def test_the_client_that_reads_sizes_gets_every_connection_setting() -> None:
    settings = BrokerSettings.model_validate(
        {
            **{"brokers": "a:1,b:2", "security_protocol": "SASL_SSL", "sasl_mechanism": "SCRAM-SHA-256"},
            **{"sasl_username": "u", "sasl_password": "p", "ssl_ca_location": "ca", "ssl_key_password": "k"},
            **{"ssl_certificate_location": "cert", "ssl_key_location": "key"},
        }
    )
    config = log_dirs_config(settings)
    assert config.keys() <= KafkaAdminClient.DEFAULT_CONFIG.keys()
    assert {"a:1,b:2", "SASL_SSL", "SCRAM-SHA-256", *("u", "p", "ca", "k", "cert", "key")} <= {
        *config.values()
    }


def test_what_is_gone_leaves_no_series(
    broker: LocalBroker, broker_settings: BrokerSettings, topic: TopicFactory
) -> None:
    name, group, metrics = topic(), unique("group"), Metrics()
    fill(broker, name, 5)
    commit(broker, group, name, 1)
    monitor = Monitor(broker_settings, metrics)
    monitor.measure()
    assert value(scrape(metrics)[1], "redpanda_consumer_lag", consumer_group=group) == 4
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    admin.delete_consumer_groups([group])[group].result(30)
    admin.delete_topics([name])[name].result(30)
    wait_until(lambda: name not in admin.list_topics(timeout=10).topics, what="the topic is deleted")
    monitor.measure()
    samples = scrape(metrics)[1]
    assert value(samples, "redpanda_consumer_lag", consumer_group=group) is None
    assert value(samples, "redpanda_topic_partitions", topic=name) is None


def test_a_dead_broker_is_counted_and_shows_no_stale_lag() -> None:
    metrics = Metrics()
    metrics.consumer_lag.replace("monitor", {("t", "0", "g"): 5})
    monitor = Monitor(BrokerSettings(brokers="127.0.0.1:1", request_timeout_ms=300), metrics)
    assert not monitor.measure()
    _, samples = scrape(metrics)
    assert value(samples, "redpanda_cluster_brokers_alive") == 0
    assert value(samples, "redpanda_consumer_lag") is None
    assert value(samples, "coinstream_monitor_last_success_timestamp_seconds") is None
    counted = {labels["what"]: count for labels, count in samples["coinstream_monitor_errors_total"]}
    assert counted == {"cluster": 1, "lag": 1, "topics": 1, "sizes": 1}


@pytest.mark.parametrize("command", [["metrics", "--port", "0", "--interval", "0.2"]])
def test_the_command_serves_what_it_measures(
    broker: LocalBroker, topic: TopicFactory, command: list[str], tmp_path: Path
) -> None:
    name = topic(partitions=3)
    environment = os.environ | {
        "REDPANDA_BROKERS": broker.bootstrap,
        "PYTHONPATH": f"{ROOT / 'platform'}{os.pathsep}{ROOT}",
        "PYTHONUNBUFFERED": "1",
        "COLUMNS": "200",
    }
    said = tmp_path / "said"
    with said.open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "coinstream", *command], stderr=errors, env=environment
        )
    try:
        text = wait_until(lambda: said.read_text() if "http" in said.read_text() else "", what="an address")
        url = next(word for word in text.split() if word.startswith("http")).rstrip(".")
        samples = parse(httpx.get(url, timeout=10).text)
        assert value(samples, "redpanda_topic_partitions", topic=name) == 3
        process.send_signal(signal.SIGINT)
        assert process.wait(120) == 0
    finally:
        process.kill()
        process.wait(120)
