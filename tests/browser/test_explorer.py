"""Test the explorer in a browser: its token, and the data on every page."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import httpx
import msgspec
import pytest
from confluent_kafka import Producer
from playwright.sync_api import Browser, Page, expect

from coinstream.client import RedpandaClient
from coinstream.consumer.handling import ConsumedMessage, GroupOptions
from coinstream.expectations.validator import ExpectationValidator
from coinstream.explore.topic_browser import browse
from coinstream.lake.landing import land
from coinstream.lake.schemas import spec_named
from coinstream.lake.store import Lake
from coinstream.local_broker.properties import free_ports
from coinstream.settings import BrokerSettings
from coinstream.stack.process import explorer_command, explorer_url
from tests.browser.conftest import WAIT_MS
from tests.conftest import ROOT, TopicFactory
from tests.lake.support import START, level1, ohlcv, places, send
from tests.support import unique, wait_until

pytestmark = [pytest.mark.system, pytest.mark.browser]
HOST = "127.0.0.1"
WEB_UI = "http://dagster.example.com"
SPEC = spec_named("level1")


@pytest.fixture
def address(
    home: Path, topic: TopicFactory, broker_settings: BrokerSettings, tmp_path: Path
) -> Iterator[str]:
    """Serve the explorer on landed quotes and candles, and yield its URL with the token."""
    quotes, candles = topic("crypto-level1-shown"), topic("crypto-ohlcv-shown")
    send(broker_settings.brokers, quotes, [level1(number) for number in range(20)])
    send(broker_settings.brokers, candles, [ohlcv(number) for number in range(5)])
    lake = Lake()
    land(lake, broker_settings, SPEC, topic=quotes)
    land(lake, broker_settings, spec_named("ohlcv"), topic=candles)
    with explorer(home, broker_settings, tmp_path / "log") as url:
        yield url


@contextmanager
def explorer(home: Path, broker_settings: BrokerSettings, log: Path) -> Iterator[str]:
    """Serve the explorer, and yield its URL with the token."""
    (port,) = free_ports(1)
    environment = {
        **os.environ,
        "REDPANDA_BROKERS": broker_settings.brokers,
        "COINSTREAM_UI_URL": WEB_UI,
        # Rules that refused messages before.
        "COINSTREAM_SERIALIZATION_STRICT": "false",
    }
    command, environment = explorer_command(ROOT, home, HOST, port, environment)
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
    try:
        wait_until(lambda: _answers(port), timeout=300, what="the explorer answers")
        yield explorer_url(home, HOST, port)
    finally:
        process.terminate()
        process.wait(120)


def _answers(port: int) -> bool:
    try:
        return httpx.get(f"http://{HOST}:{port}/health").is_success
    except httpx.TransportError:
        return False


def test_the_command_opens_a_browser_when_its_server_listens(
    home: Path, broker_settings: BrokerSettings, tmp_path: Path
) -> None:
    seen = tmp_path / "seen"
    script = tmp_path / "browser.py"
    script.write_text(
        "import pathlib, sys, urllib.request\n"
        "with urllib.request.urlopen(sys.argv[1]) as answer:\n"
        f"    pathlib.Path({str(seen)!r}).write_text(str(answer.status) + ' ' + sys.argv[1])\n"
    )
    environment = {
        **os.environ,
        "REDPANDA_BROKERS": broker_settings.brokers,
        "BROWSER": f"{sys.executable} {script} %s",
    }
    command = [sys.executable, "-m", "coinstream", "explore", "--port", "0"]
    with (tmp_path / "log").open("wb") as output:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=output)
    try:
        wait_until(lambda: seen.exists() and seen.read_text(), 300, "a browser has read the page")
        assert re.fullmatch(r"200 http://(localhost|127\.0\.0\.1):\d+\?access_token=\S+", seen.read_text())
    finally:
        process.terminate()
        process.wait(120)


def open_tab(page: Page, name: str) -> None:
    page.get_by_role("tab", name=name, exact=True).click()


def test_every_page_shows_its_data(browser: Browser, address: str) -> None:
    page = browser.new_page(viewport={"width": 1500, "height": 1000})
    page.set_default_timeout(60_000)
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(address)
    page.get_by_text("newest first").wait_for()
    open_tab(page, "Quotes")
    page.get_by_text("spread_bp").first.wait_for()
    page.locator("canvas, svg.marks").first.wait_for()
    open_tab(page, "Candles")
    page.get_by_text("binance BTC/USDT").first.wait_for()
    page.locator("canvas, svg.marks").first.wait_for()
    open_tab(page, "Lag and rates")
    page.get_by_text("Sampled while the explorer is open").wait_for()
    open_tab(page, "Exchanges")
    page.get_by_text("receipt_ms_p99").first.wait_for()
    page.get_by_text("stale_s").first.wait_for()
    open_tab(page, "Dead letters")
    page.get_by_text("dead-letter topic").first.wait_for()
    replay = page.get_by_role("button", name="replay open dead letters")
    assert replay.is_disabled(), "it is enabled by the confirmation"
    page.get_by_text("yes, send them").click()
    expect(replay).to_be_enabled(timeout=60_000)
    open_tab(page, "Quarantine")
    page.get_by_text("quarantine is empty").wait_for()
    assert errors == []
    page.close()


def fill_in(page: Page, label: str, text: str) -> None:
    field = page.get_by_label(label).filter(visible=True).first
    field.fill(text)
    field.press("Enter")


def test_messages_are_found_by_key_value_and_time(
    browser: Browser, home: Path, topic: TopicFactory, broker_settings: BrokerSettings, tmp_path: Path
) -> None:
    name = topic("crypto-level1-searched")
    producer = Producer({"bootstrap.servers": broker_settings.brokers})
    for number in range(20):
        symbol = ("BTC/USDT", "ETH/USDT")[number % 2]
        value = msgspec.json.encode(level1(number, symbol=symbol, bidSize=100.5 + number))
        at = int((START + timedelta(minutes=number)).timestamp() * 1000)
        producer.produce(name, value, key=f"binance-{symbol}", timestamp=at)
    assert producer.flush(60) == 0
    with explorer(home, broker_settings, tmp_path / "log") as url:
        page = browser.new_page(viewport={"width": 1280, "height": 1000})
        page.set_default_timeout(WAIT_MS)
        page.goto(f"{url}&page=Messages&topic={name}")
        page.get_by_text("20 records, newest first").wait_for()
        fill_in(page, "key contains", "eth")
        page.get_by_text("10 records, newest first").wait_for()
        expect(page.get_by_text("binance-BTC/USDT")).to_have_count(0)
        fill_in(page, "value contains", "103.5")
        page.get_by_text("1 records, newest first").wait_for()
        expect(page.get_by_text("2026-01-05 10:03:00.000")).to_be_visible()
        expect(page.get_by_text("time (UTC)", exact=True)).to_be_visible()
        fill_in(page, "value contains", "")
        fill_in(page, "from time (UTC)", "2026-01-05T10:10Z")
        page.get_by_text("5 records, from the start that you chose").wait_for()
        fill_in(page, "from time (UTC)", "tomorrow at noon")
        page.get_by_text('invalid time "tomorrow at noon"').wait_for()
        page.close()


@pytest.fixture
def faulty(
    home: Path, topic: TopicFactory, broker_settings: BrokerSettings, monkeypatch: pytest.MonkeyPatch
) -> str:
    """Return a topic with a dead letter, and with a quote that the rules of its landing refused."""
    name = topic("crypto-level1-faulty")
    # Nine decimals: strict rules refuse such prices.
    send(broker_settings.brokers, name, [level1(bestBid=0.000000123, bestAsk=0.000000124)])
    monkeypatch.setenv("COINSTREAM_SERIALIZATION_STRICT", "true")
    lake = Lake()
    report = land(lake, broker_settings, SPEC, ExpectationValidator(SPEC, lake.settings), topic=name)
    assert (report.rows, report.refused) == (0, 1)

    def reject(message: ConsumedMessage) -> None:
        raise ValueError("refused by the test")

    options = GroupOptions(offset_reset="earliest", retries=0)
    with (
        RedpandaClient(broker_settings) as client,
        client.create_consumer_group(unique("group"), [name], reject, options) as group,
    ):
        wait_until(lambda: group.report().dead_letters == 1, what="the dead letter")
    return name


def test_what_was_refused_is_replayed_after_a_confirmation(
    browser: Browser, home: Path, faulty: str, broker_settings: BrokerSettings, tmp_path: Path
) -> None:
    with explorer(home, broker_settings, tmp_path / "log") as url:
        page = browser.new_page(viewport={"width": 1280, "height": 1000})
        page.set_default_timeout(WAIT_MS)
        page.goto(f"{url}&page=Dead+letters&topic={faulty}.dlq")
        page.get_by_text("refused by the test").first.wait_for()
        page.get_by_text("yes, send them").click()
        page.get_by_role("button", name="replay open dead letters").click()
        page.get_by_text("Replayed 1;").wait_for()
        assert browse(broker_settings, faulty).records.height == 2
        open_tab(page, "Quarantine")
        link = page.get_by_role("link", name="asset in the web UI")
        expect(link).to_have_attribute("href", f"{WEB_UI}/assets/quarantine/level1")
        page.get_by_text("check again (changes nothing)").click()
        page.get_by_text("Would land 1 of 1 refused level1 messages").wait_for()
        assert sum(places(Lake(), "level1").values()) == 0
        page.get_by_text("yes, land those that pass").click()
        page.get_by_role("button", name="land refused messages").click()
        page.get_by_text("Landed 1 of 1 refused level1 messages").wait_for()
        assert places(Lake(), "level1") == {(faulty, 0, 0): 1}
        page.close()


def test_without_the_token_nothing_is_shown(address: str) -> None:
    bare = address.partition("?")[0]
    reply = httpx.get(bare, follow_redirects=True)
    assert "newest first" not in reply.text
    assert str(reply.url).startswith(f"{bare}/auth/login")
