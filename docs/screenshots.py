"""Takes the pictures of docs/images anew.

Usage, with a home of its own, because it writes a faulty record and stops a consumer:

    COINSTREAM_HOME=/tmp/pictures coinstream up        (and in another terminal)
    COINSTREAM_HOME=/tmp/pictures python docs/screenshots.py http://127.0.0.1:3000
"""

import json
import shutil
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from confluent_kafka import Consumer, Producer
from playwright.sync_api import Page, sync_playwright

from coinstream.brokers import require_broker
from coinstream.lake.report import write_report
from coinstream.lake.store import Lake
from coinstream.settings import BrokerSettings, HomeSettings
from coinstream.stack.dagster_client import DagsterClient

IMAGES: Final = Path(__file__).parent / "images"
CHROMIUM: Final = shutil.which("chromium") or shutil.which("google-chrome")
GROUPS: Final = ("feeds", "topics", "tables", "candles")
GROUP: Final = "quotes-to-db"
_RUNS: Final = "{ runsOrError(limit: 50) { ... on Runs { results { tags { key value } } } } }"
SETTLE_MS: Final = 3_000
"""What the page draws after its data has come."""
LINEAGE_MS: Final = 20_000


def main(url: str) -> None:
    """Bring the platform into the state that the pictures show, and take them."""
    web = DagsterClient(url, lambda: None)
    bootstrap = require_broker(BrokerSettings(), HomeSettings()).brokers
    stop_a_consumer(bootstrap)
    runs = [publish(web, speed) for speed in (2.0, 5.0, 20.0)]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--force-device-scale-factor=1"]
        )
        page = browser.new_page(base_url=url, viewport={"width": 1500, "height": 860})
        page.set_default_timeout(120_000)
        lineage(page)
        take(page, "/assets/feeds/market_data", "feed", "messages_per_second")
        plots(page)
        take(page, f"/runs/{runs[-1]}", "run", "RUN_SUCCESS")
        take(page, "/assets/topics/crypto-level1", "topic", "bestBid")
        take(page, "/automation", "automation", "feed_schedule")
        alert(page, web)
        lag(page)
        # After the landing run of the alert, which would land the quote before.
        send(bootstrap, "crypto-level1", crossed())
        land(web)
        checks(page)
        report(page)
        browser.close()
    web.close()


def publish(web: DagsterClient, speed: float) -> str:
    """Run the recorded feed; the run's id."""
    config = {"ops": {"feeds__market_data": {"config": {"duration_s": 5.0, "speed": speed}}}}
    run_id = web.launch("run_feed", config=config, tags={"dagster/partition": "binance"})
    web.wait_run(run_id, 300)
    return run_id


def land(web: DagsterClient) -> None:
    """Bring what was published into the tables."""
    hour = f"{datetime.now(UTC):%Y-%m-%d-%H:00}"
    web.wait_run(web.launch("land_topics", config={}, tags={"dagster/partition": hour}), 300)


def crossed() -> bytes:
    """Return a quote whose bid is above its ask."""
    at = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.000Z}"
    sizes = {"bestBid": 61_020.5, "bestAsk": 61_002.1, "bidSize": 0.4, "askSize": 1.2}
    return json.dumps(
        {"exchangeId": "binance", "symbol": "BTC/USDT", **sizes, "timestamp": at, "lastUpdated": at}
    ).encode()


def send(bootstrap: str, topic: str, value: bytes) -> None:
    """Past the client, which would refuse it."""
    producer = Producer({"bootstrap.servers": bootstrap})
    producer.produce(topic, value)
    producer.flush(30)


def stop_a_consumer(bootstrap: str) -> None:
    """Stop a group after some messages, so that a lag is measured and an alert is raised."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": GROUP, "auto.offset.reset": "earliest"})
    consumer.subscribe(["crypto-level1"])
    deadline = time.monotonic() + 60
    while not consumer.consume(100, 1.0) and time.monotonic() < deadline:
        pass
    consumer.commit(asynchronous=False)
    consumer.close()


def take(page: Page, path: str, name: str, text: str) -> None:
    """Take a picture of a page once it shows the text."""
    page.goto(path)
    page.get_by_text(text).first.wait_for()
    shoot(page, name)


def shoot(page: Page, name: str) -> None:
    """Take a picture of the page as it is."""
    page.wait_for_timeout(SETTLE_MS)
    page.screenshot(path=IMAGES / f"{name}.png")


def lineage(page: Page) -> None:
    """Show the graph with the exchanges folded: there are many."""
    expanded = "%2C".join(f"global%40global%3A{group}" for group in GROUPS)
    page.goto(f"/asset-groups?expanded={expanded}")
    page.get_by_text("market_data", exact=True).first.wait_for()
    page.get_by_text("Hide navigation").click()
    # The states of the assets come after the graph.
    page.wait_for_timeout(LINEAGE_MS)
    shoot(page, "lineage")
    page.evaluate("localStorage.clear()")


def plots(page: Page) -> None:
    """Show the numbers of all runs of the feed."""
    page.get_by_role("button", name="Plots").first.click()
    page.get_by_role("main").or_(page.locator("body")).get_by_role("button", name="Events").last.click()
    page.get_by_text("messages_per_second").first.scroll_into_view_if_needed()
    shoot(page, "plots")


def checks(page: Page) -> None:
    """Show a failed check of a table with the message that failed it."""
    page.goto("/assets/tables/level1?view=checks")
    page.get_by_text("bid_at_most_ask", exact=True).first.click()
    page.get_by_text("messages fail").first.wait_for()
    shoot(page, "checks")


def report(page: Page) -> None:
    """Show the page of `coinstream lake report`."""
    with TemporaryDirectory() as folder:
        written = write_report(Lake(), Path(folder) / "report.html", hours=24)
        page.goto(Path(written.path).resolve().as_uri())
        shoot(page, "report")


def alert(page: Page, web: DagsterClient) -> None:
    """Show the tick that alerted, with its text."""
    wait_for(lambda: any(GROUP in run for run in landing_runs(web)), f"an alert on the group {GROUP}")
    page.goto("/locations/coinstream/sensors/lag_sensor?status=SUCCESS")
    page.get_by_text("1 run requested").first.wait_for()
    page.locator("tr").filter(has_text="1 run requested").get_by_text("View logs").first.click()
    page.get_by_text(GROUP).first.wait_for()
    shoot(page, "alert")


def wait_for(condition: Callable[[], bool], what: str) -> None:
    """Look every two seconds, for five minutes at most."""
    deadline = time.monotonic() + 300
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not come within five minutes")
        time.sleep(2)


def landing_runs(web: DagsterClient) -> list[str]:
    """Return the groups for which landing runs were launched."""
    found = web.ask(_RUNS)["runsOrError"]["results"]
    return [tag["value"] for run in found for tag in run["tags"] if tag["key"] == "coinstream/lagging_group"]


def lag(page: Page) -> None:
    """Show the plots of a topic, among them the lag of its slowest group."""
    plot = page.get_by_text("lag_messages", exact=True).first

    def is_plotted() -> bool:
        page.goto("/assets/topics/crypto-level1")
        page.get_by_role("button", name="Plots").first.click()
        page.wait_for_timeout(SETTLE_MS)
        return plot.is_visible()

    wait_for(is_plotted, "a plot of the lag")
    page.get_by_role("button", name="Plots").first.evaluate("button => button.scrollIntoView()")
    shoot(page, "lag")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:3000")
