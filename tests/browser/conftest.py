"""A real Chromium on the web UI of one `coinstream up`."""

import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from coinstream.stack.process import DagsterClient
from tests.running_up import RunningUp

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
WAIT_MS = 120_000


# Not for the session: Playwright's event loop runs in this thread as long as it is open.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium on the PATH: install the package `chromium` to drive the web UI")
    with sync_playwright() as playwright:
        # Containers rarely allow Chromium its own sandbox; it only visits this machine.
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield opened
        opened.close()


@pytest.fixture
def web(browser: Browser, up: RunningUp) -> Iterator[DagsterClient]:
    """Asks the server what the page has done. After `browser`, so that nothing starts where it is missing."""
    opened = up.wait_ready()
    yield opened
    opened.close()


@pytest.fixture
def page(browser: Browser, web: DagsterClient) -> Iterator[Page]:
    opened = browser.new_page(base_url=web.url, viewport={"width": 1500, "height": 850})
    opened.set_default_timeout(WAIT_MS)
    opened.set_default_navigation_timeout(WAIT_MS)
    yield opened
    opened.close()
