"""Data Docs: pages of what was found, served and bounded."""

from __future__ import annotations

import re
import threading
from datetime import timedelta
from html import unescape
from pathlib import Path
from typing import Any

import httpx
import pytest

from coinstream.errors import LakeError
from coinstream.expectations import docs as module
from coinstream.expectations.docs import DataDocs, serve
from coinstream.settings import HomeSettings, LakeSettings
from tests.expectations.test_expectations import NOW, validated
from tests.lake.support import level1


def test_the_page_of_a_landing_shows_what_was_found_and_is_served(tmp_path: Path) -> None:
    docs = DataDocs(LakeSettings(docs_url="http://docs.example/"), HomeSettings(home=tmp_path))
    with serve(docs.site, "127.0.0.1", 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        base = f"http://127.0.0.1:{server.server_port}"
        assert "Nothing was landed yet" in httpx.get(base, trust_env=False).text
        checks = validated("level1", [level1(), level1(bestBid=61001.5), b"{"]).checks
        page = docs.publish("level1", checks, "run-1", NOW)
        assert docs.page("level1", "run-1") == page
        address = docs.address(page)
        assert address is not None
        shown = httpx.get(address.replace("http://docs.example", base), trust_env=False).text
        for text in ("run-1", "the bid is at most the ask", "61001.500000000000000000", "not JSON"):
            assert text in shown
        assert "expectations/level1.html" in httpx.get(f"{base}/index.html", trust_env=False).text
        server.shutdown()


def test_the_pages_load_nothing_from_a_network(tmp_path: Path) -> None:
    docs = DataDocs(LakeSettings(), HomeSettings(home=tmp_path))
    docs.publish("level1", validated("level1", [level1(), level1(bestBid=61001.5)]).checks, "run-1", NOW)
    docs.publish("level1", validated("level1", [level1()]).checks, "run-2", NOW + timedelta(seconds=1))
    pages = list(docs.site.rglob("*.html"))
    assert len(pages) >= 4
    for page in pages:
        text = page.read_text()
        assert "<script" not in text, page
        assert not re.search(r"(src|href)=\"(https?:)?//", text), page
        assert not re.search(r"url\(\s*['\"]?(https?:)?//", text), page
        assert text.count("<style>:root") + text.count("<style>\n:root") == 1, page
    index = (docs.site / "index.html").read_text()
    assert index.index("run-2") < index.index("run-1")
    assert [index.count(f">{status}<") for status in ("Succeeded", "Failed")] == [1, 1]


def test_pages_of_old_landings_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT", 2)
    docs = DataDocs(LakeSettings(), HomeSettings(home=tmp_path))
    checks = validated("level1", [level1()]).checks
    for number in range(3):
        docs.publish("level1", checks, f"run-{number}", NOW + timedelta(seconds=number))
    pages = {page.parent.parent.name for page in docs.site.glob("validations/level1/*/*/*.html")}
    assert pages == {"run-1", "run-2"}
    newest = docs.page("level1", "of-nobody")
    assert newest is not None
    assert newest.parent.parent.name == "run-2"
    assert docs.address(newest) is None


def test_an_address_that_is_taken_is_one_clear_error(tmp_path: Path) -> None:
    with (
        serve(tmp_path, "127.0.0.1", 0) as server,
        pytest.raises(LakeError, match="choose another --port"),
        serve(tmp_path, "127.0.0.1", server.server_port),
    ):
        pass


def test_pages_that_cannot_be_written_are_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "lake").write_text("a file where a folder belongs")
    docs = DataDocs(LakeSettings(), HomeSettings(home=tmp_path))
    with pytest.raises(LakeError, match="cannot write Data Docs"):
        docs.publish("level1", validated("level1", [level1()]).checks, "run", NOW)


def test_values_of_messages_are_no_markup_in_the_pages(tmp_path: Path) -> None:
    docs = DataDocs(LakeSettings(), HomeSettings(home=tmp_path))
    hostile: list[bytes | dict[str, Any] | None] = [
        level1(exchangeId="<script>alert(1)</script>"),
        level1(symbol="<img src=x onerror=alert(2)>", bestBid=61001.5),
        level1(symbol="$name ${name} {{ 7*7 }} {% raw %}", bestBid=61001.5),
        b'{"<svg onload=alert(3)>": "',
    ]
    page = docs.publish("level1", validated("level1", hostile).checks, "run", NOW)
    for each in docs.site.rglob("*.html"):
        text = each.read_text()
        assert not any(bad in text for bad in ("<script>alert", "<img src=x", "<svg onload"))
    shown = unescape(page.read_text())
    for value in ("<script>alert(1)</script>", "<img src=x onerror=alert(2)>", "$name ${name} {{ 7*7 }}"):
        assert value in shown
