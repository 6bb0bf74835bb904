"""Health by the thresholds of the specification: the rules themselves, and on real brokers."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from coinstream.local_broker import LocalBroker
from coinstream.monitoring.broker_requests import Overview, parse_overview
from coinstream.monitoring.group_lag import GroupLag, PartitionLag, Status, TimeLagSource, worst_status
from coinstream.monitoring.health import (
    check_brokers,
    check_group,
    check_producer,
    group_health,
    producer_health,
)
from coinstream.monitoring.lag import LagMonitor
from coinstream.settings import BrokerSettings, LagSettings
from tests.conftest import TopicFactory
from tests.support import unique, wait_until

ANSWERS = Path(__file__).parent / "data"
DEAD = BrokerSettings(brokers="127.0.0.1:1", request_timeout_ms=500)


@pytest.mark.parametrize(
    ("latency", "expected"),
    [
        (0.4, Status.HEALTHY),
        (99.9, Status.HEALTHY),
        (100.0, Status.DEGRADED),
        (4000.0, Status.DEGRADED),
        (None, Status.UNHEALTHY),
    ],
)
def test_the_producer_rule(latency: float | None, expected: Status) -> None:
    assert producer_health(latency).status is expected


def lag_of(*messages: int) -> GroupLag:
    parts = tuple(
        PartitionLag("t", number, 0, 0, count, count, 1.0, TimeLagSource.RECORD, True)
        for number, count in enumerate(messages)
    )
    return GroupLag("g", "STABLE", 2, 0.0, parts)


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ((0,), Status.HEALTHY),
        ((500, 499), Status.HEALTHY),
        ((500, 500), Status.DEGRADED),
        ((9_999,), Status.DEGRADED),
        ((5_000, 5_000), Status.UNHEALTHY),
    ],
)
def test_the_group_rule_is_on_the_total(messages: tuple[int, ...], expected: Status) -> None:
    health = group_health(lag_of(*messages), LagSettings())
    assert (health.status, health.lag) == (expected, sum(messages))
    assert (health.state, health.members) == ("STABLE", 2)


@given(st.lists(st.sampled_from(list(Status))))
def test_the_worst_decides(statuses: list[Status]) -> None:
    shown = worst_status(statuses)
    assert shown is (
        Status.UNHEALTHY
        if Status.UNHEALTHY in statuses
        else Status.DEGRADED
        if Status.DEGRADED in statuses
        else Status.HEALTHY
    )


def test_a_producer_on_a_real_broker_makes_its_topic_and_is_acknowledged(
    broker_settings: BrokerSettings,
) -> None:
    health = check_producer(broker_settings, timeout_s=30)
    assert health.latency_ms is not None, health.detail
    assert health.status in {Status.HEALTHY, Status.DEGRADED}


def test_nothing_answers() -> None:
    producer, cluster = check_producer(DEAD, timeout_s=1), check_brokers(DEAD)
    group = check_group(LagMonitor(DEAD), "g")
    assert [one.status for one in (producer, cluster, group)] == [Status.UNHEALTHY] * 3
    assert (producer.latency_ms, group.lag) == (None, -1)
    for detail in (producer.detail, cluster.detail, group.error):
        assert detail is not None
        assert "127.0.0.1:1" in detail


def test_a_group_that_does_not_exist_is_unhealthy_with_lag_minus_one(broker_settings: BrokerSettings) -> None:
    health = check_group(LagMonitor(broker_settings), "nobody-9")
    assert (health.status, health.lag) == (Status.UNHEALTHY, -1)
    assert "nobody-9" in str(health.error)


def test_a_group_without_commit_on_a_partition_counts_from_its_start(
    broker: LocalBroker, broker_settings: BrokerSettings, topic: TopicFactory
) -> None:
    name, group = topic(partitions=2), unique("group")
    producer = Producer({"bootstrap.servers": broker.bootstrap})
    for _ in range(1_200):
        producer.produce(name, b"x", partition=1)
    assert producer.flush(30) == 0
    consumer = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": group})
    consumer.commit(offsets=[TopicPartition(name, 0, 0)], asynchronous=False)
    consumer.close()
    health = check_group(LagMonitor(broker_settings), group)
    assert (health.status, health.lag, health.members) == (Status.DEGRADED, 1_200, 0)


@pytest.mark.system
def test_a_cluster_that_loses_a_broker_and_then_two(cluster3: LocalBroker, topic3: TopicFactory) -> None:
    settings = BrokerSettings(brokers=cluster3.bootstrap, request_timeout_ms=5_000)
    topic3(partitions=3, replication=3)
    lonely = topic3(partitions=6, replication=1)
    assert wait_until(lambda: check_brokers(settings).status is Status.HEALTHY)
    cluster3.nodes[2].kill()

    def one_down() -> bool:
        health = check_brokers(settings)
        return (
            len(health.brokers_down) == 1
            and health.under_replicated >= 3
            and health.leaderless > 0
            and health.status is Status.UNHEALTHY
        )

    wait_until(one_down, 300, "the loss is seen: partitions thin, those with one replica without a leader")
    health = check_brokers(settings)
    assert any(name.startswith(lonely) for name in health.partitions)
    assert "down" in health.detail
    cluster3.nodes[2].start()
    wait_until(lambda: check_brokers(settings).status is Status.HEALTHY, 300, "all is well again")


class AdminApi(BaseHTTPRequestHandler):
    """Speaks what Redpanda's Admin API speaks: the answers are those of a real release's form."""

    answer: bytes = b""
    status = 200

    def do_GET(self) -> None:
        known = self.path == "/v1/cluster/health_overview"
        self.send_response(self.status if known else 404)
        self.send_header("content-type", "application/json")
        self.end_headers()
        self.wfile.write(self.answer if known else b'{"message": "Not found", "code": 404}')

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@contextmanager
def admin_api(answer: bytes, status: int = 200) -> Iterator[str]:
    handler = type("Handler", (AdminApi,), {"answer": answer, "status": status})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("health_overview_healthy.json", Status.HEALTHY),
        ("health_overview_node_down.json", Status.DEGRADED),
        ("health_overview_leaderless.json", Status.UNHEALTHY),
    ],
)
def test_the_admin_api_adds_what_it_knows(
    broker_settings: BrokerSettings, file: str, expected: Status
) -> None:
    answer = (ANSWERS / file).read_bytes()
    with admin_api(answer) as url:
        health = check_brokers(broker_settings.model_copy(update={"admin_url": url}))
    told = json.loads(answer)
    assert health.status is expected
    assert health.source == "kafka and admin api"
    assert health.brokers_down == tuple(told["nodes_down"])
    for reason in told.get("unhealthy_reasons", []):
        assert reason in health.detail


@pytest.mark.parametrize(
    ("answer", "status"),
    [(b"<html>busy</html>", 200), (b"[]", 200), (b"{}", 503)],
    ids=["html", "list", "503"],
)
def test_an_admin_api_that_answers_nonsense_is_said_and_no_crash(
    broker_settings: BrokerSettings, answer: bytes, status: int
) -> None:
    with admin_api(answer, status) as url:
        health = check_brokers(broker_settings.model_copy(update={"admin_url": url}))
    assert health.status is Status.DEGRADED
    assert "REDPANDA_ADMIN_URL" in health.detail
    gone = check_brokers(broker_settings.model_copy(update={"admin_url": url}))
    assert gone.status is Status.DEGRADED, "the server is gone now"


def test_an_old_release_tells_less() -> None:
    told = {"is_healthy": False, "leaderless_partitions": ["kafka/a/0", "kafka/a/1"], "nodes_down": [3]}
    assert parse_overview(told) == Overview(is_healthy=False, nodes_down=(3,), leaderless=2)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
FIELDS = [
    "is_healthy",
    "unhealthy_reasons",
    "all_nodes",
    "nodes_down",
    "leaderless_count",
    "leaderless_partitions",
    "under_replicated_count",
    "high_disk_usage_nodes",
]


@given(st.dictionaries(st.sampled_from(FIELDS), json_values))
def test_no_answer_breaks_the_reader(told: dict[str, object]) -> None:
    shown = parse_overview(told)
    assert all(type(node) is int for node in shown.nodes_down)
