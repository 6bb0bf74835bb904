"""Test the explorer in a browser: its token, and the data on every page."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from coinstream.lake.landing import land
from coinstream.lake.schemas import spec_named
from coinstream.lake.store import Lake
from coinstream.local_broker.properties import free_ports
from coinstream.settings import BrokerSettings
from coinstream.stack.process import explorer_command, explorer_url
from tests.conftest import ROOT, TopicFactory
from tests.lake.support import level1, ohlcv, send
from tests.support import wait_until

pytestmark = [pytest.mark.system, pytest.mark.browser]
HOST = "127.0.0.1"


@pytest.fixture
def address(
    home: Path, topic: TopicFactory, broker_settings: BrokerSettings, tmp_path: Path
) -> Iterator[str]:
    """Serve the explorer on landed quotes and candles; give its address with the token."""
    quotes, candles = topic("crypto-level1-shown"), topic("crypto-ohlcv-shown")
    send(broker_settings.brokers, quotes, [level1(number) for number in range(20)])
    send(broker_settings.brokers, candles, [ohlcv(number) for number in range(5)])
    lake = Lake()
    land(lake, broker_settings, spec_named("level1"), topic=quotes)
    land(lake, broker_settings, spec_named("ohlcv"), topic=candles)
    (port,) = free_ports(1)
    environment = {**os.environ, "REDPANDA_BROKERS": broker_settings.brokers}
    command, environment = explorer_command(ROOT, home, HOST, port, environment)
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
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


def test_without_the_token_nothing_is_shown(address: str) -> None:
    bare = address.partition("?")[0]
    reply = httpx.get(bare, follow_redirects=True)
    assert "newest first" not in reply.text
    assert str(reply.url).startswith(f"{bare}/auth/login")
