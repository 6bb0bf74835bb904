"""Test the rules of a plan."""

from __future__ import annotations

import pytest

from coinstream.topics.catalogue import ANALYTICS, CORE_TOPICS, PRICES, TopicSpec
from coinstream.topics.plan import REDPANDA_SILENT_KEYS, ActualTopic, PlanAction, plan

DEFAULT = frozenset[str]()


def actual(spec: TopicSpec, drop: tuple[str, ...] = (), **changes: str) -> ActualTopic:
    config = {key: value for key, value in spec.config().items() if key not in drop}
    config |= {key.replace("_", "."): value for key, value in changes.items()}
    return ActualTopic(spec.name, spec.partitions, spec.replication_factor, config, frozenset(config))


def test_an_empty_cluster_means_create_all() -> None:
    result = plan([(spec, None) for spec in CORE_TOPICS], {})
    assert [topic.action for topic in result.topics] == [PlanAction.CREATE] * 8
    assert not result.is_settled


def test_what_is_as_wanted_is_settled() -> None:
    result = plan([(PRICES, None)], {PRICES.name: actual(PRICES)})
    assert result.is_settled
    assert result.topics[0].differences == ()


@pytest.mark.parametrize(
    ("found", "setting", "action"),
    [
        (actual(PRICES, retention_ms="1"), "retention.ms", PlanAction.CHANGE),
        (actual(PRICES, drop=("segment.ms",)), "segment.ms", PlanAction.CHANGE),
        (actual(PRICES, max_message_bytes="5"), "max.message.bytes", PlanAction.DRIFT),
        (ActualTopic(PRICES.name, 12, 3, PRICES.config()), "partitions", PlanAction.CHANGE),
        (ActualTopic(PRICES.name, 48, 3, PRICES.config()), "partitions", PlanAction.CANNOT),
        (ActualTopic(PRICES.name, 24, 1, PRICES.config()), "replication.factor", PlanAction.CANNOT),
    ],
)
def test_one_difference(found: ActualTopic, setting: str, action: PlanAction) -> None:
    (topic,) = plan([(PRICES, None)], {PRICES.name: found}).topics
    assert [(item.setting, item.action) for item in topic.differences] == [(setting, action)]
    assert topic.action is action
    assert bool(topic.changes) is (action is PlanAction.CHANGE)


def test_what_redpanda_never_reads_back_is_no_drift() -> None:
    found = actual(PRICES, drop=tuple(REDPANDA_SILENT_KEYS))
    assert not plan([(PRICES, None)], {PRICES.name: found}).is_settled
    assert plan([(PRICES, None)], {PRICES.name: found}, silent_keys=REDPANDA_SILENT_KEYS).is_settled


def test_a_change_beside_what_cannot_change_is_still_applied() -> None:
    found = ActualTopic(PRICES.name, 48, 3, PRICES.config() | {"retention.ms": "1"})
    result = plan([(PRICES, None)], {PRICES.name: found})
    assert result.topics[0].action is PlanAction.CANNOT
    assert [item.setting for item in result.topics[0].changes] == ["retention.ms"]
    assert not result.is_settled


def test_warnings_are_said_once_and_unwanted_topics_are_only_shown() -> None:
    result = plan([(PRICES, "lowered"), (ANALYTICS, "lowered")], {}, unmanaged=["crypto-old"])
    assert result.warnings == ("lowered",)
    assert result.topics[-1].action is PlanAction.UNMANAGED
