"""A user without rights is told which are missing, instead of an empty success."""

from __future__ import annotations

import json

import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AclOperation, AdminClient, ResourceType
from typer.testing import CliRunner

import coinstream.cli.groups
import coinstream.cli.topics
from coinstream.errors import AuthenticationError, TopicError
from coinstream.monitoring.lag import LagMonitor
from coinstream.settings import BrokerSettings
from coinstream.topics.apply import Provisioner
from coinstream.topics.catalogue import CORE_TOPICS, PRICES
from tests.conftest import TopicFactory
from tests.security.conftest import Secured
from tests.security.test_letting_in import allow
from tests.support import unique, wait_until


@pytest.fixture
def as_nobody(secured: Secured, monkeypatch: pytest.MonkeyPatch) -> BrokerSettings:
    """Return a user that may do nothing, also for commands."""
    settings = secured.scram("nobody")
    monkeypatch.setenv("REDPANDA_BROKERS", settings.brokers)
    monkeypatch.setenv("REDPANDA_SECURITY_PROTOCOL", "SASL_PLAINTEXT")
    monkeypatch.setenv("REDPANDA_SASL_MECHANISM", "SCRAM-SHA-512")
    monkeypatch.setenv("REDPANDA_SASL_USERNAME", "nobody")
    assert settings.sasl_password is not None
    monkeypatch.setenv("REDPANDA_SASL_PASSWORD", settings.sasl_password.get_secret_value())
    return settings


@pytest.fixture
def committed(secured: Secured, secured_topic: TopicFactory) -> tuple[str, str]:
    """Return a group that the user may not see, and its topic."""
    topic, group = secured_topic("hidden"), unique("group")
    consumer = Consumer({"bootstrap.servers": secured.broker.bootstrap, "group.id": group})
    consumer.commit(offsets=[TopicPartition(topic, 0, 0)], asynchronous=False)
    consumer.close()
    return group, topic


def test_a_plan_does_not_take_hidden_topics_for_missing(as_nobody: BrokerSettings) -> None:
    with pytest.raises(AuthenticationError, match=r"DESCRIBE on topic crypto-"):
        Provisioner(as_nobody).plan(CORE_TOPICS)
    found = CliRunner().invoke(coinstream.cli.topics.app, ["plan"])
    assert isinstance(found.exception, AuthenticationError)
    assert "create" not in found.stdout


def test_an_empty_list_of_topics_names_the_right(as_nobody: BrokerSettings) -> None:
    with pytest.raises(AuthenticationError, match="DESCRIBE on topic"):
        Provisioner(as_nobody).actual()
    with pytest.raises(AuthenticationError, match=f"DESCRIBE on topic {PRICES.name}"):
        Provisioner(as_nobody).delete([PRICES.name])


def test_no_visible_group_is_no_empty_success(as_nobody: BrokerSettings, committed: tuple[str, str]) -> None:
    with pytest.raises(AuthenticationError, match=r"DESCRIBE on the cluster and on groups"):
        LagMonitor(as_nobody).measure_all()
    found = CliRunner().invoke(coinstream.cli.groups.lag_app, [])
    assert isinstance(found.exception, AuthenticationError)


def test_some_hidden_groups_are_reported(
    as_nobody: BrokerSettings, committed: tuple[str, str], admin: AdminClient
) -> None:
    group, topic = committed
    allow(admin, "User:nobody", ResourceType.GROUP, group, AclOperation.READ, AclOperation.DESCRIBE)

    def denied() -> str:
        try:
            LagMonitor(as_nobody).measure(group)
        except AuthenticationError as error:
            return str(error)
        return ""

    wait_until(lambda: "DESCRIBE on topic" in denied(), what="the group is visible, its topics are not")
    allow(admin, "User:nobody", ResourceType.TOPIC, topic, AclOperation.READ, AclOperation.DESCRIBE)
    wait_until(lambda: denied() == "", what="the lag is readable")
    shown = json.loads(CliRunner().invoke(coinstream.cli.groups.lag_app, ["--json"]).stdout)
    assert [one["group"] for one in shown["groups"]] == [group]
    assert shown["hidden_groups"] is True
    assert "not listed" in CliRunner().invoke(coinstream.cli.groups.lag_app, []).stdout


def test_an_administrator_sees_everything(secured: Secured, committed: tuple[str, str]) -> None:
    monitor = LagMonitor(BrokerSettings(brokers=secured.broker.bootstrap))
    assert committed[0] in [lag.group for lag in monitor.measure_all()]
    assert not monitor.cluster.hides_groups
    with pytest.raises(TopicError, match="does not exist"):
        Provisioner(monitor.cluster.brokers).delete([unique("never-was")])
