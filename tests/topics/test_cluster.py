"""Planning and applying on a real broker."""

from __future__ import annotations

import json

import pytest
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from coinstream.cli import main
from coinstream.errors import BrokerError, TopicError
from coinstream.feeds.registry import exchange_names
from coinstream.kafka import admin_client
from coinstream.settings import BrokerSettings
from coinstream.topics.apply import Provisioner
from coinstream.topics.catalogue import PRICES, TopicSpec
from coinstream.topics.plan import PlanAction
from tests.support import unique, wait_until


@pytest.fixture
def spec() -> TopicSpec:
    return PRICES.model_copy(update={"name": unique("crypto-test"), "partitions": 4})


def test_applying_twice_changes_nothing(broker_settings: BrokerSettings, spec: TopicSpec) -> None:
    provisioner = Provisioner(broker_settings)
    first = provisioner.plan([spec])
    assert first.topics[0].action is PlanAction.CREATE
    assert "lowered to 1" in first.warnings[0]
    provisioner.apply(first)
    provisioner.apply(first)
    settled = provisioner.plan([spec])
    assert settled.is_settled
    assert settled.topics[0].differences == ()


def test_what_was_changed_by_hand_is_set_back(broker_settings: BrokerSettings, spec: TopicSpec) -> None:
    provisioner = Provisioner(broker_settings)
    provisioner.apply(provisioner.plan([spec]))
    set_by_hand(broker_settings, spec.name, {"retention.ms": "1000", "max.message.bytes": "2000000"})

    changed = provisioner.plan([spec]).topics[0]
    assert {item.setting: item.action for item in changed.differences} == {
        "retention.ms": PlanAction.CHANGE,
        "max.message.bytes": PlanAction.DRIFT,
    }
    provisioner.apply(provisioner.plan([spec]))
    left = provisioner.plan([spec])
    assert left.is_settled
    assert [item.setting for item in left.topics[0].differences] == ["max.message.bytes"]


def test_partitions_grow_and_never_shrink(broker_settings: BrokerSettings, spec: TopicSpec) -> None:
    provisioner = Provisioner(broker_settings)
    provisioner.apply(provisioner.plan([spec]))
    provisioner.apply(provisioner.plan([spec.model_copy(update={"partitions": 6})]))
    smaller = provisioner.plan([spec])
    assert smaller.topics[0].action is PlanAction.CANNOT
    provisioner.apply(smaller)
    (found,) = [topic for topic in provisioner.actual() if topic.name == spec.name]
    assert found.partitions == 6


def test_a_refused_topic_is_named_and_the_others_are_applied(
    broker_settings: BrokerSettings, spec: TopicSpec
) -> None:
    provisioner = Provisioner(broker_settings)
    bad = spec.model_copy(update={"name": unique("crypto-bad"), "cleanup_policy": "nonsense"})
    with pytest.raises(TopicError, match=bad.name):
        provisioner.apply(provisioner.plan([bad, spec]))
    assert spec.name in {topic.name for topic in provisioner.actual()}


def test_delete_needs_a_name_that_exists(broker_settings: BrokerSettings, spec: TopicSpec) -> None:
    provisioner = Provisioner(broker_settings)
    provisioner.apply(provisioner.plan([spec]))
    provisioner.delete([spec.name])
    with pytest.raises(TopicError, match="does not exist"):
        provisioner.delete([unique("never-was")])


def test_a_dead_broker_is_one_clear_error() -> None:
    dead = BrokerSettings(brokers="127.0.0.1:1", request_timeout_ms=500)
    with pytest.raises(BrokerError, match=r"127\.0\.0\.1:1.*REDPANDA_BROKERS"):
        Provisioner(dead).plan([PRICES])


def test_the_command_plans_applies_and_lists(
    broker_settings: BrokerSettings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("REDPANDA_BROKERS", broker_settings.brokers)
    exchange = unique("x")
    monkeypatch.setenv("COINSTREAM_EXCHANGE_TOPICS", exchange)
    assert run("topics", "plan", "-e", exchange, "--exit-code") == 3
    assert f"crypto-prices-{exchange}" in capsys.readouterr().out
    assert run("topics", "apply", "-e", exchange, "--json") == 0
    capsys.readouterr()
    assert run("topics", "plan", "-e", exchange, "--json", "--exit-code") == 0
    assert json.loads(capsys.readouterr().out)["settled"] is True
    assert run("topics", "list", "--json") == 0
    listed = {topic["name"]: topic for topic in json.loads(capsys.readouterr().out)["topics"]}
    assert listed[f"crypto-level1-{exchange}"]["partitions"] == 24
    assert listed["crypto-level1"]["config"]["retention.ms"] == "86400000"


@pytest.mark.parametrize(
    ("typo", "meant"),
    [("nosuch", None), ("binanse", "binance"), ("krakken", "kraken"), ("coinbasse", "coinbase")],
)
@pytest.mark.parametrize("command", ["plan", "apply"])
def test_an_exchange_that_nobody_knows_is_refused(
    command: str,
    typo: str,
    meant: str | None,
    capsys: pytest.CaptureFixture[str],
    broker_settings: BrokerSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("REDPANDA_BROKERS", broker_settings.brokers)
    assert run("topics", command, "-e", typo) == 1
    shown = capsys.readouterr()
    assert f"unknown exchange '{typo}'" in shown.err
    assert meant is None or f"did you mean {meant}" in shown.err
    assert not [name for name in Provisioner(broker_settings).actual() if name.name.endswith(typo)]


def test_exchanges_that_only_ccxt_has_are_known() -> None:
    assert {"binance", "kraken", "coinbase", "mexc"} <= exchange_names()


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as done:
        main(list(words))
    return int(done.value.code or 0)


def set_by_hand(brokers: BrokerSettings, topic: str, values: dict[str, str]) -> None:
    entries = [
        ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET) for key, value in values.items()
    ]
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries)
    admin = admin_client(brokers)
    admin.incremental_alter_configs([resource])[resource].result(10)
    # A node reports a change only after it has applied what the controller accepted.
    described = ConfigResource(ResourceType.TOPIC, topic)
    wait_until(
        lambda: (
            values.items()
            <= {
                key: entry.value
                for key, entry in admin.describe_configs([described])[described].result(10).items()
            }.items()
        ),
        what=f"{topic} has {values}",
    )
