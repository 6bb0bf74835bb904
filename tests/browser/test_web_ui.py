"""Test user workflows of the web UI in a browser."""

import json
import re
from datetime import UTC, datetime
from typing import Any

import pytest
from confluent_kafka import Producer
from playwright.sync_api import Page, expect

from coinstream.local_broker import require_broker
from coinstream.settings import BrokerSettings, HomeSettings
from coinstream.stack.process import DagsterClient
from tests.browser.conftest import WAIT_MS
from tests.orchestration.test_assets import counted
from tests.orchestration.test_termination import TOPICS, reported
from tests.running_up import RunningUp
from tests.support import wait_until

pytestmark = [pytest.mark.browser, pytest.mark.timeout(1800), pytest.mark.system]

_RUNS = """query ($limit: Int!) { runsOrError(limit: $limit) { ... on Runs { results {
  runId status tags { key value } assetSelection { path } } } } }"""
_SCHEDULES = """{ schedulesOrError(repositorySelector: {repositoryName: "__repository__",
  repositoryLocationName: "coinstream"}) { ... on Schedules { results { name
  scheduleState { status } } } } }"""
_EXPANDED = "%2C".join(f"global%40global%3A{group}" for group in ("exchanges", "feeds", "topics"))

Run = dict[str, Any]


def runs(web: DagsterClient) -> list[Run]:
    return list(web.ask(_RUNS, limit=50)["runsOrError"]["results"])


def wait_new_run(web: DagsterClient, before: list[Run], status: str) -> Run:
    known = {run["runId"] for run in before}

    def found() -> Run | None:
        return next((run for run in runs(web) if run["runId"] not in known and run["status"] == status), None)

    run = wait_until(found, WAIT_MS / 1000, what=f"a new run with status {status}")
    assert run is not None
    return run


def brokers(up: RunningUp) -> str:
    return require_broker(BrokerSettings(), HomeSettings(home=up.home)).brokers


def counts(up: RunningUp) -> dict[str, int]:
    """Return records by topic."""
    return {topic: counted(brokers(up), topic) for topic in TOPICS}


def produce(up: RunningUp, topic: str, value: bytes) -> None:
    """Past our client, which refuses what is wrong."""
    producer = Producer({"bootstrap.servers": brokers(up)})
    producer.produce(topic, value)
    assert producer.flush(60) == 0


def test_the_graph_shows_exchange_feed_and_topics(page: Page) -> None:
    # Only what is in sight is drawn.
    page.set_viewport_size({"width": 2200, "height": 2000})
    page.goto(f"/asset-groups?expanded={_EXPANDED}")
    graph = page.locator("svg")
    for name in ("binance", "market_data", "crypto-level1", "crypto-prices"):
        expect(graph.get_by_text(name, exact=True).first).to_be_attached(timeout=WAIT_MS)
    page.goto("/assets/feeds/market_data")
    upstream, downstream = page.get_by_text("Upstream assets"), page.get_by_text("Downstream assets")
    expect(upstream).to_be_visible(timeout=WAIT_MS)
    expect(downstream).to_be_visible(timeout=WAIT_MS)
    expect(page.locator('a[href*="/assets/exchanges/binance"]').first).to_be_visible(timeout=WAIT_MS)
    expect(page.locator('a[href*="/assets/topics/crypto-level1"]').first).to_be_visible(timeout=WAIT_MS)


def test_a_materialization_started_from_the_page_succeeds(page: Page, web: DagsterClient) -> None:
    before = runs(web)
    page.goto("/assets/topics/crypto-analytics")
    page.get_by_role("button", name="Materialize").first.click()
    run = wait_new_run(web, before, "SUCCESS")
    assert run["assetSelection"] == [{"path": ["topics", "crypto-analytics"]}]


def test_the_schedule_is_turned_on_and_off(page: Page, web: DagsterClient) -> None:
    def status() -> str:
        found = web.ask(_SCHEDULES)["schedulesOrError"]["results"]
        (schedule,) = (each for each in found if each["name"] == "feed_schedule")
        return str(schedule["scheduleState"]["status"])

    assert status() == "STOPPED"
    page.goto("/automation")
    row = page.locator("div").filter(has_text=re.compile("^feed_schedule"))
    # The row has two boxes: one selects it, the other is the switch.
    switch = row.locator('label[class*="Switch"]').last
    switch.click()
    wait_until(lambda: status() == "RUNNING", WAIT_MS / 1000, what="the schedule runs")
    switch.click()
    wait_until(lambda: status() == "STOPPED", WAIT_MS / 1000, what="the schedule is off")


def test_a_feed_is_launched_and_terminated_and_nothing_acknowledged_is_lost(
    page: Page, web: DagsterClient, up: RunningUp
) -> None:
    before, at_first = runs(web), counts(up)
    page.goto("/assets/feeds/market_data")
    page.get_by_role("button", name="Materialize").first.click()
    page.get_by_text("Select a partition or create one").click()
    # The dialog and the page behind it show the name too.
    filtering = page.get_by_placeholder("Filter partitions")
    menu = page.locator(".bp5-portal").filter(has=filtering)
    menu.get_by_text("binance", exact=True).filter(visible=True).last.click()
    # Another click closes the list, which covers the button.
    page.get_by_text("Partition selection").click()
    page.get_by_role("button", name="Launch 1 run").click()
    run = wait_new_run(web, before, "STARTED")
    assert {"key": "dagster/partition", "value": "binance"} in run["tags"]
    wait_until(lambda: counts(up) != at_first, WAIT_MS / 1000, what="messages flow")

    page.goto(f"/runs/{run['runId']}")
    page.get_by_role("button", name="Terminate").click()
    page.get_by_role("button", name="Terminate 1 run").click()
    wait_new_run(web, before, "CANCELED")
    after = counts(up)
    brought = {topic: after[topic] - at_first[topic] for topic in TOPICS if after[topic] > at_first[topic]}
    assert reported(web, run["runId"]) == brought


def test_an_hour_is_landed_and_its_quarantined_quote_is_read_in_a_failed_check(
    page: Page, web: DagsterClient, up: RunningUp
) -> None:
    at = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.000Z}"
    crossed = {"bestBid": 2.0, "bestAsk": 1.0, "bidSize": 1.0, "askSize": 1.0}
    quote = {"exchangeId": "binance", "symbol": "BTC/USDT", **crossed, "timestamp": at, "lastUpdated": at}
    produce(up, "crypto-level1", json.dumps(quote).encode())
    before = runs(web)
    page.goto("/assets/tables/level1")
    page.get_by_role("button", name="Materialize").first.click()
    page.get_by_role("button", name="Latest").click()
    page.get_by_role("button", name=re.compile("^Launch")).last.click()
    run = wait_new_run(web, before, "SUCCESS")
    assert run["assetSelection"] == [{"path": ["tables", "level1"]}]

    page.goto("/assets/tables/level1?view=checks")
    page.get_by_text("bid_at_most_ask", exact=True).first.click()
    expect(page.get_by_text("Expected: the bid is at most the ask")).to_be_visible(timeout=WAIT_MS)
    expect(page.get_by_text(re.compile("1 of .* messages fail"))).to_be_visible(timeout=WAIT_MS)
    expect(page.get_by_text("Failed").first).to_be_visible()


def test_a_failed_check_says_what_is_wrong(page: Page, up: RunningUp) -> None:
    produce(up, "crypto-analytics", b'{"exchangeId": "coingecko", "totalMarketCap": "a lot"}')
    page.goto("/assets/topics/crypto-analytics?view=checks")
    page.get_by_text("schema", exact=True).first.click()
    page.get_by_role("button").filter(has_text=re.compile("^Execute$")).click()
    expect(page.get_by_text(re.compile("1 of .* messages are not valid analytics"))).to_be_visible(
        timeout=WAIT_MS
    )
    expect(page.get_by_text("Failed").first).to_be_visible()


def test_an_asset_leads_to_its_page_of_the_explorer_and_back(page: Page, web: DagsterClient) -> None:
    page.goto("/assets/topics/crypto-level1")
    with page.context.expect_page(timeout=WAIT_MS) as opened:
        page.locator('a[href*="/explorer?page=Messages"]').first.click()
    explorer = opened.value
    expect(explorer.get_by_text("newest first")).to_be_visible(timeout=WAIT_MS)
    expect(explorer.get_by_text("crypto-level1").first).to_be_visible()
    with page.context.expect_page(timeout=WAIT_MS) as returned:
        explorer.get_by_role("link", name="asset in the web UI").click()
    asset = returned.value
    expect(asset).to_have_url(f"{web.url}/assets/topics/crypto-level1", timeout=WAIT_MS)
    expect(asset.get_by_text("newest_messages").first).to_be_visible(timeout=WAIT_MS)
    asset.close()
    explorer.close()


def test_links_and_pictures_of_the_runbook_and_the_guide_work(page: Page, web: DagsterClient) -> None:
    for name in ("runbook", "dagster"):
        page.goto(f"/docs/{name}")
        links: list[str] = page.eval_on_selector_all("a[href]", "links => links.map(link => link.href)")
        own = sorted({link for link in links if link.startswith(web.url)})
        assert own
        for link in own:
            assert page.request.get(link).ok, link
        anchors = [link.partition("#")[2] for link in own if link.startswith(f"{web.url}/docs/{name}#")]
        for anchor in anchors:
            expect(page.locator(f'[id="{anchor}"]')).to_be_attached()
        assert page.evaluate("Array.from(document.images).every(one => one.complete && one.naturalWidth)")
