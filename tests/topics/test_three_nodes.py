"""Test the topics of the catalogue on three nodes with a bare client."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType

from coinstream.local_broker import LocalBroker
from coinstream.settings import BrokerSettings
from coinstream.topics.apply import Provisioner
from coinstream.topics.catalogue import CORE_TOPICS, PRICES, catalogue, exchange_topic
from coinstream.topics.plan import Plan, PlanAction
from tests.conftest import topic_factory
from tests.support import unique, wait_until

pytestmark = pytest.mark.system

COMMON = {"compression.type": "lz4", "cleanup.policy": "delete", "min.insync.replicas": "2"}
# The catalogue's figures; a topic of one exchange has half the partitions and 1.5 times the retention.
WANTED = {
    "crypto-prices": (24, 604_800_000, 1_073_741_824, 86_400_000, 104_857_600),
    "crypto-ohlcv": (12, 2_592_000_000, 2_147_483_648, 86_400_000, 209_715_200),
    "crypto-analytics": (6, 7_776_000_000, 1_073_741_824, 172_800_000, 314_572_800),
    "crypto-level1": (48, 86_400_000, 536_870_912, 3_600_000, 52_428_800),
    "crypto-trades": (48, 604_800_000, 1_073_741_824, 86_400_000, 104_857_600),
    "crypto-book": (48, 86_400_000, 536_870_912, 3_600_000, 52_428_800),
    "crypto-derivatives": (12, 2_592_000_000, 1_073_741_824, 86_400_000, 209_715_200),
    "crypto-liquidations": (6, 7_776_000_000, 1_073_741_824, 172_800_000, 314_572_800),
    "crypto-prices-kraken": (12, 907_200_000, 1_073_741_824, 86_400_000, 104_857_600),
    "crypto-ohlcv-kraken": (6, 3_888_000_000, 2_147_483_648, 86_400_000, 209_715_200),
    "crypto-analytics-kraken": (3, 11_664_000_000, 1_073_741_824, 172_800_000, 314_572_800),
    "crypto-level1-kraken": (24, 129_600_000, 536_870_912, 3_600_000, 52_428_800),
    "crypto-trades-kraken": (24, 907_200_000, 1_073_741_824, 86_400_000, 104_857_600),
    "crypto-book-kraken": (24, 129_600_000, 536_870_912, 3_600_000, 52_428_800),
    "crypto-derivatives-kraken": (6, 3_888_000_000, 1_073_741_824, 86_400_000, 209_715_200),
    "crypto-liquidations-kraken": (3, 11_664_000_000, 1_073_741_824, 172_800_000, 314_572_800),
}


def test_topics_are_as_specified(cluster3: LocalBroker) -> None:
    provisioner = Provisioner(BrokerSettings(brokers=cluster3.bootstrap))
    specs = [*CORE_TOPICS, *(exchange_topic(spec, "kraken") for spec in CORE_TOPICS)]
    first = provisioner.plan(specs)
    assert first.warnings == ()
    assert {spec.name for spec in specs} == WANTED.keys()
    assert first.count(PlanAction.CREATE) == len(WANTED)
    provisioner.apply(first)

    admin = AdminClient({"bootstrap.servers": cluster3.bootstrap})
    for name, (partitions, retention, size, segment, segment_size) in WANTED.items():
        found = wait_until(partial(partitions_of, admin, name), what=f"the node that is asked knows {name}")
        assert len(found) == partitions
        assert {len(part.replicas) for part in found.values()} == {3}
        expected = COMMON | {
            "retention.ms": str(retention),
            "retention.bytes": str(size),
            "segment.ms": str(segment),
            "segment.bytes": str(segment_size),
        }
        if name.startswith("crypto-prices"):
            expected |= {"index.interval.bytes": "4096", "unclean.leader.election.enable": "false"}
        wait_until(partial(has_settings, admin, name, expected), what=f"{name} has {expected}")

    def settled() -> Plan | None:
        plan = provisioner.plan(specs)
        return plan if plan.is_settled else None

    # Each plan may ask another node, so the one that is settled is looked at.
    again = wait_until(settled, what="the plan is settled")
    assert [topic.differences for topic in again.topics if topic.spec] == [()] * len(WANTED)


def partitions_of(admin: AdminClient, topic: str) -> dict[int, Any]:
    """Empty until the word of the topic has come to the node that answers."""
    return dict(admin.list_topics(topic, timeout=10).topics[topic].partitions)


def has_settings(admin: AdminClient, topic: str, expected: dict[str, str]) -> bool:
    """Return False also as long as the node that answers does not know the topic."""
    try:
        return settings_of(admin, topic, expected) == expected
    except KafkaException:
        return False


def settings_of(admin: AdminClient, topic: str, keys: dict[str, str]) -> dict[str, Any]:
    resource = ConfigResource(ResourceType.TOPIC, topic)
    entries = admin.describe_configs([resource])[resource].result(10)
    return {key: entries[key].value for key in keys}


def test_a_wrong_replication_factor_is_shown_and_left_alone(cluster3: LocalBroker) -> None:
    name = topic_factory(cluster3.bootstrap)("thin", replication=1)
    provisioner = Provisioner(BrokerSettings(brokers=cluster3.bootstrap))
    spec = PRICES.model_copy(update={"name": name, "partitions": 1})

    def known() -> Plan | None:
        plan = provisioner.plan([spec])
        return None if plan.count(PlanAction.CREATE) else plan

    # The node that is asked may not have heard of the topic yet.
    plan = wait_until(known, what=f"the node that is asked knows {name}")
    (topic,) = [topic for topic in plan.topics if topic.name == name]
    assert topic.action is PlanAction.CANNOT
    (factor,) = [item for item in topic.differences if item.action is PlanAction.CANNOT]
    assert (factor.setting, factor.actual, factor.wanted) == ("replication.factor", "1", "3")
    # The other settings are changed.
    provisioner.apply(plan)

    def left() -> set[str]:
        return {item.setting for item in provisioner.plan([spec]).topics[0].differences}

    # A node that is asked may not have heard of the change yet.
    wait_until(lambda: left() == {"replication.factor"}, what="all else is as wanted")


def test_topics_that_nobody_wants_are_shown_and_never_touched(cluster3: LocalBroker) -> None:
    name = unique("crypto-old")
    admin = AdminClient({"bootstrap.servers": cluster3.bootstrap})
    admin.create_topics([NewTopic(name, 1, 3)])[name].result(30)
    provisioner = Provisioner(BrokerSettings(brokers=cluster3.bootstrap))

    def planned() -> Plan | None:
        plan = provisioner.plan(catalogue())
        return plan if name in {topic.name for topic in plan.topics} else None

    plan = wait_until(planned, what=f"the node that is asked knows {name}")
    assert name in [topic.name for topic in plan.topics if topic.action is PlanAction.UNMANAGED]
    provisioner.apply(plan)
    assert name in {topic.name for topic in provisioner.actual()}


@pytest.mark.parametrize("words", [("plan",), ("apply",)])
def test_one_warning_for_all_topics_that_a_small_cluster_lowers(
    broker: LocalBroker,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
) -> None:
    from coinstream.cli import main

    monkeypatch.setenv("REDPANDA_BROKERS", broker.bootstrap)
    with pytest.raises(SystemExit) as done:
        main(["topics", *words])
    assert not done.value.code
    warnings = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert len(warnings) == 1
    assert "crypto-prices, crypto-ohlcv" in warnings[0]
    assert "lowered to 1 with min.insync.replicas 1" in warnings[0]
