"""Provide one platform with data in it to all tests of the documentation."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from coinstream.client import RedpandaClient
from coinstream.dlq.entry import DeadLetter, dead_letter_headers
from coinstream.local_broker import LocalBroker
from coinstream.settings import BrokerSettings
from tests.docs.handling import call


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Yield the variables of a platform that has topics, quotes, tables, a group and a dead letter.

    The pages delete, replay and land topics by the names that people use, so it has a broker of its own.
    """
    with (
        LocalBroker(tmp_path_factory.mktemp("docs-broker"), nodes=1, port=0) as local,
        pytest.MonkeyPatch.context() as patch,
    ):
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        home = str(tmp_path_factory.mktemp("docs-home"))
        variables = {"REDPANDA_BROKERS": local.bootstrap, "COINSTREAM_HOME": home, "PATH": path}
        for name, value in variables.items():
            patch.setenv(name, value)
        for words in ("topics apply", "feed run binance --speed max --limit 5000 --json", "lake land --json"):
            assert call(*words.split())[0] == 0
        admin = AdminClient({"bootstrap.servers": local.bootstrap})
        names = ("crypto-level1-again", "crypto-old", "spreads", "audit")
        for made in admin.create_topics([NewTopic(name, 4, replication_factor=1) for name in names]).values():
            made.result(30)
        _write_dead_letter(local.bootstrap)
        patch.undo()
        yield variables


def _write_dead_letter(bootstrap: str) -> None:
    letter = DeadLetter(
        *("crypto-level1", 3, 1200, 1_700_000_000_000, b"binance-BTC/USDT", b"{}", []),
        *("ValueError", "ValueError: no such account", 9, "strategy", "2026-11-02T10:00:00.000Z"),
    )
    with RedpandaClient(BrokerSettings(brokers=bootstrap)) as client:
        client.send("crypto-level1.dlq", letter.key, letter.value, dead_letter_headers(letter)).result(30)
