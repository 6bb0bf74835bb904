"""`coinstream topics create` and `describe`."""

from __future__ import annotations

import json

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from typer.testing import CliRunner, Result

import coinstream.cli.topics
from coinstream.errors import TopicError
from coinstream.local_broker import LocalBroker
from coinstream.topics.catalogue import LEVEL1, PRICES, topic_like
from tests.support import unique


@pytest.fixture(autouse=True)
def _broker(broker: LocalBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDPANDA_BROKERS", broker.bootstrap)


def run(*words: str) -> Result:
    return CliRunner().invoke(coinstream.cli.topics.app, words)


def test_a_topic_like_one_of_the_catalogue() -> None:
    assert topic_like("crypto-level1-again") == LEVEL1.model_copy(update={"name": "crypto-level1-again"})
    copy = topic_like("mine", "crypto-prices", partitions=3, retention_hours=2)
    assert (copy.partitions, copy.retention_ms, copy.segment_bytes) == (3, 7_200_000, PRICES.segment_bytes)
    assert topic_like("scratch").retention_ms == 86_400_000
    with pytest.raises(TopicError, match="did you mean crypto-prices"):
        topic_like("mine", "crypto-price")
    with pytest.raises(TopicError, match=r"^'with space' is not a valid topic name"):
        topic_like("with space")


def test_a_missing_topic_is_told_before_the_confirmation() -> None:
    refused = run("delete", unique("missing"))
    assert isinstance(refused.exception, TopicError)
    assert "does not exist" in str(refused.exception)
    assert "Delete" not in refused.output


def test_create_then_describe(broker: LocalBroker) -> None:
    name = unique("created")
    planned = json.loads(run("create", name, "--partitions", "2", "--dry-run", "--json").stdout)
    assert [topic["action"] for topic in planned["topics"]] == ["create"]
    assert isinstance(run("describe", name).exception, TopicError), "a dry run creates nothing"
    assert run("create", name, "--partitions", "2", "--retention-hours", "48").exit_code == 0
    again = run("create", name)
    assert isinstance(again.exception, TopicError)
    assert "exists already" in str(again.exception)
    producer = Producer({"bootstrap.servers": broker.bootstrap})
    producer.produce(name, b"x", partition=1)
    assert producer.flush(30) == 0
    group = unique("group")
    consumer = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": group})
    consumer.commit(offsets=[TopicPartition(name, 1, 0)], asynchronous=False)
    consumer.close()
    found = json.loads(run("describe", name, "--json").stdout)
    assert (found["messages"], found["settings"]["retention.ms"]) == (1, "172800000")
    assert [(part["partition"], part["low"], part["high"]) for part in found["partitions"]] == [
        (0, 0, 0),
        (1, 0, 1),
    ]
    assert all(part["leader"] is not None and part["replicas"] for part in found["partitions"])
    assert [(one["group"], one["messages"]) for one in found["groups"]] == [(group, 1)]
    shown = run("describe", name).stdout
    assert "retention.ms" in shown
    assert group in shown
