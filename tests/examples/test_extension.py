"""The example package adds an exchange, a message type and a sink without a change in coinstream."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from coinstream.local_broker import LocalBroker

ROOT = Path(__file__).parents[2]
MODULES = ("funding", "hitbtc", "sqlite_sink")
FRAMES = [
    '{"result":{"ch":"orderbook/top/100ms","subscriptions":["BTCUSDT"]},"id":1}',
    '{"ch":"orderbook/top/100ms","data":{"BTCUSDT":{"t":1731000000123,"a":"75000.5","A":"0.2","b":"75000.1","B":"1.5"}}}',
    '{"ch":"orderbook/top/100ms","data":{"BTCUSDT":{"t":1731000000223,"a":"75000.7","A":"0.1","b":"","B":"0"}}}',
    '{"ch":"orderbook/top/100ms","data":{"ETHUSDT":{"t":1731000000323,"a":"2900.25","A":"3","b":"2900.1","B":"4"}}}',
    '{"ch":"orderbook/top/100ms","data":{"BTCUSDT":{"t":17310000',
]
ROUND_TRIP = """
from datetime import UTC, datetime
from coinstream.plugins import load_plugins
load_plugins()
from coinstream.client import RedpandaClient
from coinstream.codec import Decoder
from coinstream.settings import BrokerSettings
from coinstream_example.funding import FundingRate

now = datetime(2026, 1, 2, tzinfo=UTC)
rate = FundingRate("binance", "BTC/USDT:USDT", 0.0001, now, now)
with RedpandaClient(BrokerSettings()) as client:
    client.publish([rate])
    client.flush()
    assert {topic for topic, _ in client.delivered} == {"crypto-funding"}, client.delivered
    value, headers = client.encoder.encode(rate)
assert Decoder().decode(value, headers, "crypto-funding").message == rate
"""


@pytest.fixture
def extended(broker: LocalBroker) -> dict[str, str]:
    """The environment of a process that has the example's plugins."""
    return os.environ | {
        "REDPANDA_BROKERS": broker.bootstrap,
        "COINSTREAM_PLUGINS": ",".join(f"coinstream_example.{name}" for name in MODULES),
        "PYTHONPATH": os.pathsep.join([str(ROOT / "platform"), str(ROOT / "examples" / "extension")]),
    }


def run(environment: dict[str, str], *command: str) -> str:
    done = subprocess.run(
        [sys.executable, *command], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_message_type_an_exchange_and_a_sink_are_one_file_each(
    extended: dict[str, str], tmp_path: Path
) -> None:
    # 1. The message type: planned, provisioned, routed and encoded like the four.
    run(extended, "-m", "coinstream", "topics", "apply")
    topics = json.loads(run(extended, "-m", "coinstream", "topics", "list", "--json"))["topics"]
    assert {"crypto-funding", "crypto-funding.dlq"} <= {topic["name"] for topic in topics}
    run(extended, "-c", ROUND_TRIP)
    # 2. The exchange: a recorded session becomes quotes, what cannot is accounted for.
    session = tmp_path / "session.ws"
    lines = [f"{1731000000 + number}.5: {frame}" for number, frame in enumerate(FRAMES)]
    session.write_text("\n".join(["wss://api.hitbtc.com/api/3/ws/public <-> 1731000000.1", *lines]) + "\n")
    report = json.loads(
        run(extended, "-m", "coinstream", "feed", "run", str(session), "--speed", "max", "--json")
    )
    assert (report["exchange"], report["messages"], report["dead_letters"]) == ("hitbtc", 2, 1)
    assert report["rejected"]["quote with an empty side"] == 1
    # 3. The sink: each quote is a row once, also when the group reads again.
    database = tmp_path / "quotes.db"
    for group in ("first", "second"):
        run(
            extended,
            *("-m", "coinstream", "sink", "run", "sqlite", str(database), "--topic", "crypto-level1"),
            *("--group", f"example-{group}-{tmp_path.name}", "--idle", "2"),
        )
    with sqlite3.connect(database) as connection:
        rows = connection.execute("SELECT symbol, bid, ask FROM quotes WHERE exchange = 'hitbtc'").fetchall()
    assert sorted(rows) == [("BTC/USDT", 75000.1, 75000.5), ("ETH/USDT", 2900.1, 2900.25)]
