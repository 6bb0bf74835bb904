"""Take the pictures of docs/images again: explorer, Dagster, Data Docs and the report.

Usage, with a home of its own, because it writes faulty records and stops a consumer:

    COINSTREAM_HOME=/tmp/pictures coinstream up        (and in another terminal)
    COINSTREAM_HOME=/tmp/pictures python docs/screenshots.py http://127.0.0.1:3000

Names after the address choose pictures, for example `explorer topic lag`; all are taken by default.
"""

import json
import shutil
import sys
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from confluent_kafka import Consumer, Producer
from playwright.sync_api import Browser, Page, ViewportSize, sync_playwright

from coinstream.dlq.entry import DeadLetter, dead_letter_headers
from coinstream.expectations.docs import DataDocs
from coinstream.lake.statistics import write_report
from coinstream.lake.store import Lake
from coinstream.local_broker import require_broker
from coinstream.settings import BrokerSettings, HomeSettings
from coinstream.stack.process import DagsterClient, explorer_url

IMAGES: Final = Path(__file__).parent / "images"
CHROMIUM: Final = shutil.which("chromium") or shutil.which("google-chrome")
GROUPS: Final = ("feeds", "candles")
GROUP: Final = "quotes-to-db"
_RUNS: Final = "{ runsOrError(limit: 50) { ... on Runs { results { tags { key value } } } } }"
SIZE: Final[ViewportSize] = {"width": 1400, "height": 860}
EXPLORER_PORT: Final = 2718
Picture = Callable[[Page, DagsterClient], None]
Headers = Iterable[tuple[str, str | bytes | None]]
SETTLE_MS: Final = 5_000
"""What the page draws after its data has come."""
LINEAGE_MS: Final = 20_000


def main(url: str, names: list[str]) -> None:
    """Bring the platform into the state that the pictures show, and take the chosen ones."""
    web = DagsterClient(url, lambda: None)
    bootstrap = require_broker(BrokerSettings(), HomeSettings()).brokers
    prepare(web, bootstrap)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--force-device-scale-factor=1"]
        )
        page = browser.new_page(base_url=url, viewport=SIZE)
        page.set_default_timeout(180_000)
        for name, picture in PICTURES.items():
            if not names or name in names:
                print(name, flush=True)
                picture(page, web)
        if not names or "explorer" in names:
            explorer(browser)
        browser.close()
    web.close()


def prepare(web: DagsterClient, bootstrap: str) -> None:
    """Publish quotes, stop a consumer, and add a crossed quote, a record that is no JSON and dead letters."""
    publish(web, 5.0)
    stop_a_consumer(bootstrap)
    publish(web, 20.0)
    for value in (crossed(), b"{not json"):
        send(bootstrap, "crypto-level1", value)
    for error in ("ValueError", "DecodeError"):
        letter = DeadLetter(
            *("crypto-level1", 3, 1200, int(time.time() * 1000), b"binance-BTC/USDT", b'{"bestBid":"x"}', []),
            *(error, f"{error}: no such account", 8, GROUP, ""),
        )
        send(bootstrap, "crypto-level1.dlq", b'{"bestBid":"x"}', dead_letter_headers(letter))
    land(web)
    web.wait_run(web.launch("build_candles", config={}, tags={}), 300)
    for job in ("inspect_dead_letters", "inspect_quarantine", "check_topics"):
        web.wait_run(web.launch(job, config={}, tags={}), 300)


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


def send(bootstrap: str, topic: str, value: bytes, headers: Headers = ()) -> None:
    """Produce without the platform's client, which refuses such records."""
    producer = Producer({"bootstrap.servers": bootstrap})
    producer.produce(topic, value, b"binance-BTC/USDT", headers=[*headers])
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


def take(path: str, name: str, text: str) -> Picture:
    """Return what takes a picture of a page once it shows the text."""

    def picture(page: Page, web: DagsterClient) -> None:
        page.goto(path)
        page.get_by_text(text).first.wait_for()
        shoot(page, name)

    return picture


def shoot(page: Page, name: str) -> None:
    """Take a picture of the page as it is."""
    page.wait_for_timeout(SETTLE_MS)
    page.screenshot(path=IMAGES / f"{name}.png")


def lineage(page: Page, web: DagsterClient) -> None:
    """Show the graph with the exchanges folded: there are many."""
    expanded = "%2C".join(f"global%40global%3A{group}" for group in GROUPS)
    page.goto(f"/asset-groups?expanded={expanded}")
    page.get_by_text("market_data", exact=True).first.wait_for()
    page.get_by_text("Hide navigation").click()
    # The states of the assets come after the graph.
    page.wait_for_timeout(LINEAGE_MS)
    shoot(page, "lineage")
    page.evaluate("localStorage.clear()")


def checks(page: Page, web: DagsterClient) -> None:
    """Show a failed check of a table with the message that failed it."""
    page.goto("/assets/tables/level1?view=checks")
    page.get_by_text("bid_at_most_ask", exact=True).first.click()
    page.get_by_text("messages fail").first.wait_for()
    shoot(page, "checks")


def report(page: Page, web: DagsterClient) -> None:
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


def lag(page: Page, web: DagsterClient) -> None:
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


def run(page: Page, web: DagsterClient) -> None:
    """Show the newest run of a feed."""
    run_id = publish(web, 5.0)
    page.goto(f"/runs/{run_id}")
    page.get_by_text("RUN_SUCCESS").first.wait_for()
    shoot(page, "run")


def data_docs(page: Page, web: DagsterClient) -> None:
    """Show the newest Data Docs of the quotes."""
    docs = DataDocs(Lake().settings)
    newest = docs.page("level1", "newest")
    assert newest is not None
    page.goto(newest.resolve().as_uri())
    shoot(page, "data-docs")


def explorer(browser: Browser) -> None:
    """Show each page of the explorer, light and dark."""
    for scheme in ("light", "dark"):
        page = browser.new_page(viewport=SIZE, color_scheme=scheme)
        page.set_default_timeout(180_000)
        page.goto(explorer_url(HomeSettings().home, "127.0.0.1", EXPLORER_PORT))
        for tab, name, seen in TABS:
            page.get_by_role("tab", name=tab, exact=True).click()
            page.locator(seen).first.wait_for()
            page.locator("[data-status=running]").first.wait_for(state="detached")
            shoot(page, f"explorer-{name}-{scheme}")
        page.close()


PICTURES: Final[dict[str, Picture]] = {
    "lineage": lineage,
    "feed": take("/assets/exchanges/binance", "feed", "messages_per_second"),
    "run": run,
    "topic": take("/assets/topics/crypto-level1", "topic", "bestBid"),
    "dead-letters": take("/assets/topics/crypto-level1.dlq", "dead-letters", "no such account"),
    "quarantine": take("/assets/quarantine/level1", "quarantine", "bid_at_most_ask"),
    "replay": take("/locations/coinstream/jobs/replay_quarantine/playground", "replay", "dry_run"),
    "jobs": take("/jobs", "jobs", "replay_quarantine"),
    "automation": take("/automation", "automation", "feed_schedule"),
    "sensor": take("/locations/coinstream/sensors/lag_sensor", "sensor", "Frequency"),
    "checks": checks,
    "report": report,
    "data-docs": data_docs,
    "lag": lag,
    "alert": alert,
}
TABS: Final = (
    ("Messages", "messages", "text=newest first"),
    ("Quotes", "quotes", "text=spread_bp"),
    ("Candles", "candles", 'text="candle"'),
    ("Lag and rates", "lag", "text=Sampled while"),
    ("Exchanges", "exchanges", "text=stale_s"),
    ("Dead letters", "dead-letters", "text=newest dead letters"),
    ("Quarantine", "quarantine", "text=newest refused messages"),
)

if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:3000", sys.argv[2:])
