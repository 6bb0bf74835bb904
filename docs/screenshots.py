"""Take the pictures of docs/images: lineage, assets, runs, alerts, the explorer, Data Docs and the report.

One command starts a platform in an empty home, brings it into the state that the pictures show, takes them
and stops it (about ten minutes on two quiet cores):

    python docs/screenshots.py

Each picture is taken with a light and with a dark color scheme (`NAME.png` and `NAME-dark.png`). A picture
that fails is taken once more at the end. To take single pictures, use a running `coinstream up` of the same
COINSTREAM_HOME; `--ready` omits the preparation if an earlier command has done it:

    python docs/screenshots.py --url http://127.0.0.1:3000 --ready explorer topic lag
"""

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, Literal
from urllib.parse import quote

from confluent_kafka import Producer
from playwright.sync_api import Browser, Page, Route, ViewportSize, sync_playwright
from playwright.sync_api import Error as PlaywrightError

from coinstream.client import RedpandaClient
from coinstream.consumer.handling import ConsumedMessage, GroupOptions
from coinstream.errors import CoinstreamError
from coinstream.expectations.docs import DataDocs
from coinstream.lake.statistics import write_report
from coinstream.lake.store import Lake
from coinstream.local_broker import require_broker
from coinstream.messages import Level1
from coinstream.settings import BrokerSettings, HomeSettings
from coinstream.stack.process import DagsterClient

ROOT: Final = Path(__file__).resolve().parents[1]
IMAGES: Final = ROOT / "docs" / "images"
CHROMIUM: Final = shutil.which("chromium") or shutil.which("google-chrome")
GROUP: Final = "quotes-to-db"
WIDE: Final[ViewportSize] = {"width": 1400, "height": 860}
BROAD: Final[ViewportSize] = {"width": 2000, "height": 1000}
TALL: Final[ViewportSize] = {"width": 1280, "height": 1000}
WAIT_S: Final = 1_800.0
PAGE_MS: Final = 300_000
SETTLE_MS: Final = 4_000
"""Time that a page draws after its data has come."""
_RUNS: Final = "{ runsOrError(limit: 50) { ... on Runs { results { tags { key value } } } } }"
REPLAY: Final = "ops:\n  replay_refused:\n    config:\n      type: level1\n      dry_run: true\n"
SCHEMES: Final[dict[Literal["light", "dark"], str]] = {"light": "", "dark": "-dark"}
"""Color schemes, and the ends of the names of their pictures."""
OTHER_HOSTS: Final = re.compile(r"https?://(?!127\.0\.0\.1[:/]|localhost[:/])")
Picture = Callable[[Page, DagsterClient], None]


def main(arguments: Sequence[str]) -> None:
    """Bring the platform into the state that the pictures show, and take the chosen ones."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="*", help=f"pictures: {' '.join(PICTURES)}")
    parser.add_argument("--url", help="web UI of a running `coinstream up`, which is left running")
    parser.add_argument("--ready", action="store_true", help="with --url: the state was prepared before")
    chosen = parser.parse_args(arguments)
    with running_platform(chosen.url) as url, sync_playwright() as playwright:
        web = DagsterClient(url, lambda: None, timeout_s=WAIT_S)
        if not chosen.ready:
            prepare(web)
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--force-device-scale-factor=1"]
        )
        wanted = {name: picture for name, picture in PICTURES.items() if name in (chosen.names or PICTURES)}
        failed = take(browser, web, take(browser, web, wanted))
        browser.close()
        web.close()
    if failed:
        sys.exit(f"not taken: {', '.join(failed)}")


def take(browser: Browser, web: DagsterClient, pictures: dict[str, Picture]) -> dict[str, Picture]:
    """Take pictures; return those that failed."""
    failed = {}
    for name, picture in pictures.items():
        print(f"{datetime.now():%H:%M:%S} {name}", flush=True)
        page = open_page(browser, web.url)
        try:
            picture(page, web)
        except (PlaywrightError, CoinstreamError, TimeoutError) as error:
            failed[name] = picture
            print(f"{name} failed: {error}", flush=True)
        page.close()
    return failed


@contextmanager
def running_platform(url: str | None) -> Iterator[str]:
    """Yield the URL of the web UI of a running platform, or of one in an empty home."""
    if url is not None:
        yield url
        return
    with TemporaryDirectory(prefix="coinstream-pictures-") as home:
        os.environ |= {"COINSTREAM_HOME": home, "COINSTREAM_BROKER_PORT": "0"}
        paths = os.pathsep.join((str(ROOT / "platform"), str(ROOT)))
        command = [sys.executable, "-m", "coinstream", "up", "--port", "0", "--no-feed"]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=os.environ | {"PYTHONPATH": paths}
        )
        assert process.stdout is not None
        try:
            for line in process.stdout:
                print(line, end="", flush=True)
                if line.startswith("Ready: "):
                    yield line.split()[1]
                    return
            raise RuntimeError(f"`coinstream up` ended with exit code {process.wait()}")
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()


def prepare(web: DagsterClient) -> None:
    """Publish a recording without end, add two faulty records, and stop a consumer that rejected one."""
    publish(web, duration_s=20.0)
    config = {"ops": {"feeds__market_data": {"config": {"duration_s": 7_200.0, "loop": True, "speed": 0.7}}}}
    web.launch("run_feed", config=config, tags={"dagster/partition": "binance"})
    brokers = require_broker(BrokerSettings(), HomeSettings())
    send(brokers, crossed())
    send(brokers, b"{not json")
    consume_until_rejected(brokers, rejections=2)
    land(web)
    for job in ("build_candles", "check_topics", "inspect_dead_letters", "inspect_quarantine"):
        run_job(web, job)


def run_job(web: DagsterClient, job: str, **tags: str) -> None:
    """Run a job to its end; on a busy machine, its run may need a second attempt."""
    try:
        web.wait_run(web.launch(job, config={}, tags=tags), WAIT_S)
    except CoinstreamError as error:
        print(f"{job} again: {error}", flush=True)
        web.wait_run(web.launch(job, config={}, tags=tags), WAIT_S)


def land(web: DagsterClient) -> None:
    """Bring what was published into the tables."""
    run_job(web, "land_topics", **{"dagster/partition": f"{datetime.now(UTC):%Y-%m-%d-%H:00}"})


def send(brokers: BrokerSettings, value: bytes) -> None:
    """Produce a record without the client, which refuses faulty ones."""
    producer = Producer({"bootstrap.servers": brokers.brokers})
    producer.produce("crypto-level1", value, b"binance-BTC/USDT")
    producer.flush(30)


def publish(web: DagsterClient, duration_s: float) -> str:
    """Publish the simulated feed for some seconds; return the run's id."""
    config = {"ops": {"feeds__market_data": {"config": {"duration_s": duration_s}}}}
    run_id: str = web.launch("run_feed", config=config, tags={"dagster/partition": "simulated"})
    web.wait_run(run_id, WAIT_S)
    return run_id


def crossed() -> bytes:
    """Return a quote whose bid is above its ask."""
    at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    sizes = {"bestBid": 61_828.5, "bestAsk": 61_802.1, "bidSize": 0.4, "askSize": 1.2}
    return json.dumps(
        {"exchangeId": "binance", "symbol": "BTC/USDT", **sizes, "timestamp": at, "lastUpdated": at}
    ).encode()


def consume_until_rejected(brokers: BrokerSettings, rejections: int) -> None:
    """Consume quotes up to that number of dead letters, then stop, so that lag grows and raises an alert."""

    def store(message: ConsumedMessage) -> None:
        found = message.message
        if isinstance(found, Level1) and found.best_bid > found.best_ask:
            raise ValueError(f"bid {found.best_bid} is above ask {found.best_ask}")

    options = GroupOptions(offset_reset="earliest", retries=2)
    with (
        RedpandaClient(brokers) as client,
        client.create_consumer_group(GROUP, ["crypto-level1"], store, options) as group,
    ):
        wait_for(lambda: group.report().dead_letters >= rejections, f"{rejections} dead letters")


def wait_for(condition: Callable[[], bool], what: str) -> None:
    """Poll the condition every two seconds.

    Raises:
        TimeoutError: it is not met in time.
    """
    deadline = time.monotonic() + WAIT_S
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not come within {WAIT_S:g} s")
        time.sleep(2)


def open_page(browser: Browser, url: str) -> Page:
    """Open an empty page."""
    page = browser.new_page(base_url=url, viewport=WIDE)
    page.set_default_timeout(PAGE_MS)
    return page


def shoot(page: Page, name: str) -> None:
    """Take a picture of the page as it is, with each color scheme."""
    for scheme, suffix in SCHEMES.items():
        page.emulate_media(color_scheme=scheme)
        page.wait_for_timeout(SETTLE_MS)
        page.screenshot(path=IMAGES / f"{name}{suffix}.png", animations="disabled")
    page.emulate_media(color_scheme="light")


@contextmanager
def without_network(page: Page) -> Iterator[None]:
    """Refuse requests to other hosts while the block loads a page.

    Raises:
        CoinstreamError: the page requested something from another host.
    """
    refused: list[str] = []

    def refuse(route: Route) -> None:
        refused.append(route.request.url)
        route.abort()

    page.route(OTHER_HOSTS, refuse)
    yield
    page.unroute(OTHER_HOSTS)
    if refused:
        raise CoinstreamError(f"the page needs a network: {', '.join(refused)}")


def of_page(path: str, name: str, text: str, top: str | None = None) -> Picture:
    """Return what takes a picture of a page once it shows the text, below the text `top`."""

    def picture(page: Page, web: DagsterClient) -> None:
        page.set_viewport_size(WIDE if top is None else BROAD)
        page.goto(path)
        page.get_by_text(text).filter(visible=True).first.wait_for()
        if top is not None:
            page.get_by_text("Hide navigation").click()
            page.get_by_text(top, exact=True).first.evaluate("heading => heading.scrollIntoView()")
        shoot(page, name)

    return picture


def lineage(page: Page, web: DagsterClient) -> None:
    """Show the groups of assets."""
    page.set_viewport_size({"width": 1800, "height": 640})
    page.goto("/asset-groups")
    page.get_by_text("Hide navigation").click()
    page.locator("svg").get_by_text("quarantine", exact=True).first.wait_for()
    # The states of the assets come after the graph.
    page.get_by_text("fetching statuses").first.wait_for(state="detached")
    shoot(page, "lineage")


def automation(page: Page, web: DagsterClient) -> None:
    """Show the schedules and sensors, once their switches are loaded."""
    page.set_viewport_size(TALL)
    page.goto("/automation")
    row = page.locator("div").filter(has_text=re.compile("^quarantine_sensor"))
    row.locator('label[class*="Switch"]').last.wait_for()
    shoot(page, "automation")


def checks(page: Page, web: DagsterClient) -> None:
    """Show a failed check of a table with the message that failed it. Later landings passed."""
    send(require_broker(BrokerSettings(), HomeSettings()), crossed())
    land(web)
    page.goto("/assets/tables/level1?view=checks")
    page.get_by_text("bid_at_most_ask", exact=True).first.click()
    page.get_by_text("messages fail").first.wait_for()
    shoot(page, "checks")


def report(page: Page, web: DagsterClient) -> None:
    """Show the page of `coinstream lake report`."""
    with TemporaryDirectory() as folder:
        written = write_report(Lake(), Path(folder) / "report.html", hours=24)
        with without_network(page):
            page.goto(Path(written.path).resolve().as_uri())
            shoot(page, "report")


def alert(page: Page, web: DagsterClient) -> None:
    """Show the tick that alerted, with its text."""
    wait_for(lambda: GROUP in landing_runs(web), f"an alert on the group {GROUP}")
    tick = page.locator("tr").filter(has_text="1 run requested").first
    older = page.get_by_role("button", name="Older")

    def is_listed() -> bool:
        page.goto("/locations/coinstream/sensors/lag_sensor")
        page.get_by_text("View logs").first.wait_for()
        while not tick.is_visible() and older.is_enabled():
            older.click()
            page.wait_for_timeout(SETTLE_MS)
        return tick.is_visible()

    wait_for(is_listed, "the tick that alerted")
    tick.get_by_text("View logs").click()
    page.get_by_text(GROUP).first.wait_for()
    shoot(page, "alert")


def landing_runs(web: DagsterClient) -> list[str]:
    """Return the groups for which landing runs were launched."""
    found = web.ask(_RUNS)["runsOrError"]["results"]
    return [tag["value"] for run in found for tag in run["tags"] if tag["key"] == "coinstream/lagging_group"]


def lag(page: Page, web: DagsterClient) -> None:
    """Show the plots of a topic, among them the lag of its slowest group."""
    page.set_viewport_size(TALL)
    plot = page.get_by_text("lag_messages", exact=True).filter(visible=True).first

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
    newest = DataDocs(Lake().settings).page("level1", "newest")
    assert newest is not None
    with without_network(page):
        page.goto(newest.resolve().as_uri())
        shoot(page, "data-docs")


def explorer(page: Page, web: DagsterClient) -> None:
    """Show each page of the explorer, which is opened by the link of an asset."""
    page.set_viewport_size(TALL)
    with without_network(page):
        page.goto(f"/explorer?page={quote(TABS[0][0])}")
        for tab, name, seen in TABS:
            page.get_by_role("tab", name=tab, exact=True).click()
            page.locator(seen).filter(visible=True).first.wait_for()
            shoot(page, f"explorer-{name}")


PICTURES: Final[dict[str, Picture]] = {
    "lineage": lineage,
    "alert": alert,
    "feed": of_page("/assets/exchanges/binance", "feed", "messages_per_second", "Metadata"),
    "run": run,
    "topic": of_page("/assets/topics/crypto-level1", "topic", '"bestBid"', "newest_messages"),
    "dead-letters": of_page("/assets/topics/crypto-level1.dlq", "dead-letters", "is above ask", "Metadata"),
    "quarantine": of_page("/assets/quarantine/level1", "quarantine", "bid_at_most_ask", "Metadata"),
    "replay": of_page(
        f"/locations/coinstream/jobs/replay_quarantine/playground/setup?config={quote(REPLAY)}",
        "replay",
        "dry_run",
    ),
    "jobs": of_page("/jobs", "jobs", "replay_quarantine"),
    "automation": automation,
    "sensor": of_page("/locations/coinstream/sensors/lag_sensor", "sensor", "Frequency"),
    "checks": checks,
    "report": report,
    "data-docs": data_docs,
    "lag": lag,
    # The last, so that its charts have a past.
    "explorer": explorer,
}
TABS: Final = (
    ("Quotes", "quotes", "text=spread_bp"),
    ("Messages", "messages", "text=newest first"),
    ("Candles", "candles", 'text="candle"'),
    ("Exchanges", "exchanges", "text=stale_s"),
    ("Dead letters", "dead-letters", "text=is above ask"),
    ("Quarantine", "quarantine", "text=newest refused messages"),
    ("Lag and rates", "lag", "text=Sampled while"),
)

if __name__ == "__main__":
    main(sys.argv[1:])
