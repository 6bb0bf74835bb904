"""Readers that join no group name why they are not let in, as quickly as everything else."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from coinstream.cli import main
from coinstream.consumer.tail_reader import TailReader, newest_records
from coinstream.dlq import DeadLetterQueue
from coinstream.errors import AuthenticationError, BrokerError
from coinstream.kafka.partition_reader import PartitionReader
from coinstream.settings import BrokerSettings, ConsumerSettings
from tests.security.conftest import PASSWORD, Secured


def tail(brokers: BrokerSettings) -> None:
    with TailReader(brokers, "crypto-level1"):
        pass


def read(brokers: BrokerSettings) -> None:
    with PartitionReader(brokers, ConsumerSettings(), "crypto-level1"):
        pass


def list_dead_letters(brokers: BrokerSettings) -> None:
    assert list(DeadLetterQueue(brokers, "crypto-level1").read()) == []


READERS: list[Callable[[BrokerSettings], object]] = [
    tail,
    read,
    list_dead_letters,
    lambda brokers: DeadLetterQueue(brokers, "crypto-level1").replay(),
    lambda brokers: newest_records(brokers, "crypto-level1", 10),
]


@pytest.mark.parametrize("reader", READERS)
def test_a_wrong_password_is_named(secured: Secured, reader: Callable[[BrokerSettings], object]) -> None:
    with pytest.raises(AuthenticationError, match="REDPANDA_SASL") as raised:
        reader(secured.scram("writer", "wrong-Password-never-shown"))
    assert "wrong-Password" not in str(raised.value)
    assert PASSWORD not in str(raised.value)


@pytest.mark.parametrize("reader", READERS)
def test_a_host_that_does_not_resolve_is_named(reader: Callable[[BrokerSettings], object]) -> None:
    brokers = BrokerSettings(brokers="no-such-host.invalid:9092,nor-this.invalid:9092")
    with pytest.raises(BrokerError, match=r"no-such-host\.invalid.*does not resolve"):
        reader(brokers)


@pytest.mark.parametrize(
    "words",
    [
        ["tail", "crypto-level1"],
        ["dlq", "list", "crypto-level1"],
        ["dlq", "replay", "crypto-level1"],
        ["replay", "crypto-level1", "--to", "again"],
        ["sink", "run", "jsonl", "out.jsonl", "--topic", "crypto-level1"],
        ["topics", "list"],
        ["lag"],
    ],
)
def test_commands_name_a_host_that_does_not_resolve(
    words: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("sink"))
    monkeypatch.setenv("REDPANDA_BROKERS", "no-such-host.invalid:9092")
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 1
    assert "no-such-host.invalid:9092 does not resolve" in capsys.readouterr().err
