"""Landing without rights: an error that names the topic, never an empty success."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from confluent_kafka.admin import AclOperation, AdminClient, NewTopic, ResourceType
from typer.testing import CliRunner

from coinstream.cli import lake as cli
from coinstream.errors import AuthenticationError
from coinstream.lake.landing import land
from coinstream.lake.schemas import spec_named
from tests.conftest import TopicFactory
from tests.lake.conftest import lake_at
from tests.lake.support import level1, send
from tests.security.conftest import PASSWORD, Secured
from tests.security.test_letting_in import allow

SPEC = spec_named("level1")


def test_a_user_without_rights_gets_an_error_from_landing(
    secured: Secured, secured_topic: TopicFactory, tmp_path: Path
) -> None:
    name = secured_topic("level1")
    send(secured.broker.bootstrap, name, [level1()])
    with pytest.raises(AuthenticationError, match=rf"describing {name}.*access rule"):
        land(lake_at(tmp_path), secured.scram("nobody"), SPEC, topic=name)


def test_an_exchange_topic_that_may_not_be_seen_is_an_error_too(
    secured: Secured,
    secured_topic: TopicFactory,
    admin: AdminClient,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name = secured_topic("level1")
    admin.create_topics([NewTopic(f"{name}-kraken", 1)])[f"{name}-kraken"].result(30)
    allow(admin, "User:reader", ResourceType.TOPIC, name, AclOperation.READ, AclOperation.DESCRIBE)
    send(secured.broker.bootstrap, name, [level1()])
    monkeypatch.setenv("COINSTREAM_EXCHANGE_TOPICS", "kraken")
    with pytest.raises(AuthenticationError, match=rf"describing {name}-kraken.*access rule"):
        land(lake_at(tmp_path), secured.scram("reader"), SPEC, topic=name)


def test_the_command_fails_without_rights(
    secured: Secured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = secured.scram("nobody")
    monkeypatch.setenv("COINSTREAM_HOME", str(tmp_path))
    monkeypatch.setenv("REDPANDA_BROKERS", settings.brokers)
    monkeypatch.setenv("REDPANDA_SECURITY_PROTOCOL", "SASL_PLAINTEXT")
    monkeypatch.setenv("REDPANDA_SASL_MECHANISM", "SCRAM-SHA-512")
    monkeypatch.setenv("REDPANDA_SASL_USERNAME", "nobody")
    monkeypatch.setenv("REDPANDA_SASL_PASSWORD", PASSWORD)
    done = CliRunner().invoke(cli.app, ["land", "level1", "--json"])
    assert done.exit_code != 0
    assert not done.stdout or "tables" not in json.loads(done.stdout)
    assert isinstance(done.exception, AuthenticationError)
