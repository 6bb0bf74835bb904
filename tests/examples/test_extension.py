"""The example package adds an exchange, a message type and a sink without a change in coinstream."""

from __future__ import annotations

import itertools
import json
import os
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

from coinstream.local_broker import LocalBroker

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[2]
MODULES = ("funding", "bitvavo", "sqlite_sink")
SUBSCRIBED = '{"event":"subscribed","subscriptions":{"ticker24h":["BTC-USDC","ETH-EUR"]}}'


def ticker(market: str, bid: str, ask: str) -> str:
    told = {"market": market, "bid": bid, "bidSize": "1.5", "ask": ask, "askSize": "0.2", "last": ask}
    return json.dumps(
        {"event": "ticker24h", "data": [told | {"open": "1", "timestamp": 1731000000123}]},
        separators=(",", ":"),
    )


FRAMES = [
    SUBSCRIBED,
    ticker("BTC-USDC", "75000.1", "75000.5"),
    ticker("BTC-USDC", "", "75000.7"),
    ticker("ETH-EUR", "2900.1", "2900.25"),
    ticker("BTC-USDC", "75000.1", "75000.5")[:60],
]
ROUND_TRIP = """
from datetime import UTC, datetime
from coinstream.settings import load_plugins
load_plugins()
from coinstream.client import RedpandaClient
from coinstream.serialization import MessageDeserializer
from coinstream.settings import BrokerSettings
from coinstream_example.funding import FundingRate

now = datetime(2026, 1, 2, tzinfo=UTC)
rate = FundingRate("binance", "BTC/USDT:USDT", 0.0001, now, now)
absurd = FundingRate("binance", "ETH/USDT:USDT", 0.9, now, now)
with RedpandaClient(BrokerSettings()) as client:
    client.publish([rate, absurd])
    client.flush()
    assert {topic for topic, _ in client.delivered} == {"crypto-funding"}, client.delivered
    value, headers = client.encoder.encode(rate)
assert MessageDeserializer().decode(value, headers, "crypto-funding").message == rate
"""


@pytest.fixture
def extended(broker: LocalBroker, tmp_path: Path) -> dict[str, str]:
    """Return the environment of a process that has the example's plugins."""
    return os.environ | {
        "REDPANDA_BROKERS": broker.bootstrap,
        "COINSTREAM_HOME": str(tmp_path / "home"),
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
    landed = json.loads(run(extended, "-m", "coinstream", "lake", "land", "funding", "--json"))["tables"][0]
    assert (landed["rows"], landed["refused"]) == (1, 1)
    assert {c["name"]: c["failed"] for c in landed["checks"]}["plausible_rate"] == 1
    # 2. The exchange: a recorded session becomes messages, what cannot is accounted for.
    session = tmp_path / "session.ws"
    lines = [f"{1731000000 + number}.5: {frame}" for number, frame in enumerate(FRAMES)]
    session.write_text("\n".join(["wss://ws.bitvavo.com/v2 <-> 1731000000.1", *lines]) + "\n")
    report = json.loads(
        run(extended, "-m", "coinstream", "feed", "run", str(session), "--speed", "max", "--json")
    )
    assert (report["exchange"], report["dead_letters"]) == ("bitvavo", 1)
    assert report["by_type"] == {"level1": 2, "price": 2}
    assert report["entries"] == {"quote with an empty side": 1, "price not in dollars": 1}
    # 3. The sink: each quote is a row once, also when the group reads again.
    database = tmp_path / "quotes.db"
    for group in ("first", "second"):
        run(
            extended,
            *("-m", "coinstream", "sink", "run", "sqlite", str(database), "--topic", "crypto-level1"),
            *("--group", f"example-{group}-{tmp_path.name}", "--idle", "2"),
        )
    with sqlite3.connect(database) as connection:
        rows = connection.execute("SELECT symbol, bid, ask FROM quotes WHERE exchange = 'bitvavo'").fetchall()
    assert sorted(rows) == [("BTC/USDC", 75000.1, 75000.5), ("ETH/EUR", 2900.1, 2900.25)]


class Venue(BaseHTTPRequestHandler):
    """Bitvavo's REST: its clock and its markets."""

    def do_GET(self) -> None:
        markets = [
            {"market": name, "base": name[:3], "quote": name[4:], "status": "trading"}
            for name in ("BTC-USDC", "ETH-EUR")
        ]
        told = {"time": int(time.time() * 1000)} if self.path.endswith("/time") else markets
        body = json.dumps(told).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing to standard error."""


def quote(connection: ServerConnection) -> None:
    asked = json.loads(connection.recv())
    assert asked == {
        "action": "subscribe",
        "channels": [{"name": "ticker24h", "markets": ["BTC-USDC", "ETH-EUR"]}],
    }
    connection.send(SUBSCRIBED)
    with suppress(ConnectionClosed):
        for number in itertools.count():
            connection.send(ticker("BTC-USDC", f"{75000 + number}.1", f"{75000 + number}.5"))
            time.sleep(0.01)


def test_the_exchange_is_connected_to_live(extended: dict[str, str], tmp_path: Path) -> None:
    feeds = tmp_path / "feeds.yaml"
    with serve(quote, "127.0.0.1", 0) as socket, ThreadingHTTPServer(("127.0.0.1", 0), Venue) as rest:
        for server in (socket, rest):
            threading.Thread(target=server.serve_forever, daemon=True).start()
        feeds.write_text(
            "feeds:\n  bitvavo-live:\n    source: direct\n    exchange: bitvavo\n"
            "    symbols: [BTC/USDC, ETH/EUR]\n"
            f"    ws_url: ws://127.0.0.1:{socket.socket.getsockname()[1]}\n"
            f"    rest_url: http://127.0.0.1:{rest.server_address[1]}\n"
        )
        environment = extended | {"COINSTREAM_FEEDS": str(feeds)}
        report = json.loads(
            run(environment, "-m", "coinstream", "feed", "run", "bitvavo-live", "--limit", "20", "--json")
        )
        rest.shutdown()
    assert report["by_type"] == {"level1": 10, "price": 10}
    assert not report["dead_letters"]
