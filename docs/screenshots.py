"""Takes the pictures of docs/images anew.

Usage, with a home of its own, because it writes a faulty record:

    COINSTREAM_HOME=/tmp/pictures coinstream up        (and in another terminal)
    COINSTREAM_HOME=/tmp/pictures python docs/screenshots.py http://127.0.0.1:3000
"""

import re
import shutil
import sys
from pathlib import Path
from typing import Final

from confluent_kafka import Producer
from playwright.sync_api import Page, sync_playwright

from coinstream.brokers import require_broker
from coinstream.settings import BrokerSettings, HomeSettings
from coinstream.up.web import Web

IMAGES: Final = Path(__file__).parent / "images"
CHROMIUM: Final = shutil.which("chromium") or shutil.which("google-chrome")
GROUPS: Final = ("feeds", "topics", "tables", "candles")
FAULTY: Final = b'{"exchangeId": "coingecko", "totalMarketCap": "a lot"}'
SETTLE_MS: Final = 3_000
"""What the page draws after its data has come."""


def main(url: str) -> None:
    """Bring the platform into the state that the pictures show, and take them."""
    web = Web(url, lambda: None)
    runs = [publish(web, speed) for speed in (2.0, 5.0, 20.0)]
    bootstrap = require_broker(BrokerSettings(), HomeSettings()).brokers
    producer = Producer({"bootstrap.servers": bootstrap})
    producer.produce("crypto-analytics", FAULTY)
    producer.flush(30)
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
        take(page, "/assets/topics/crypto-level1", "topic", "retention.ms")
        take(page, "/automation", "automation", "feed_schedule")
        checks(page)
        browser.close()
    web.close()


def publish(web: Web, speed: float) -> str:
    """Run the recorded feed; the run's id."""
    config = {"ops": {"feeds__market_data": {"config": {"duration_s": 5.0, "speed": speed}}}}
    run_id = web.launch("run_feed", config=config, tags={"dagster/partition": "binance"})
    web.wait_run(run_id, 300)
    return run_id


def take(page: Page, path: str, name: str, text: str) -> None:
    """A picture of a page, once it shows the text."""
    page.goto(path)
    page.get_by_text(text).first.wait_for()
    shoot(page, name)


def shoot(page: Page, name: str) -> None:
    """A picture of what is on the page."""
    page.wait_for_timeout(SETTLE_MS)
    page.screenshot(path=IMAGES / f"{name}.png")


def lineage(page: Page) -> None:
    """The graph, with the exchanges folded: there are many."""
    expanded = "%2C".join(f"global%40global%3A{group}" for group in GROUPS)
    page.goto(f"/asset-groups?expanded={expanded}")
    page.get_by_text("market_data", exact=True).first.wait_for()
    shoot(page, "lineage")


def plots(page: Page) -> None:
    """The numbers of all runs of the feed."""
    page.get_by_role("button", name="Plots").first.click()
    page.get_by_role("main").or_(page.locator("body")).get_by_role("button", name="Events").last.click()
    page.get_by_text("messages_per_second").first.scroll_into_view_if_needed()
    shoot(page, "plots")


def checks(page: Page) -> None:
    """A check that fails."""
    page.goto("/assets/topics/crypto-analytics?view=checks")
    page.get_by_text("schema", exact=True).first.click()
    page.get_by_role("button").filter(has_text=re.compile("^Execute$")).click()
    page.get_by_text("not so:").first.wait_for()
    shoot(page, "checks")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:3000")
