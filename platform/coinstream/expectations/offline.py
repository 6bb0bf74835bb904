"""Make the pages of Great Expectations complete without a network: own styles, no scripts or remote files."""

from __future__ import annotations

import re
from html import escape
from pathlib import Path
from typing import Final

_MARK: Final = "<!-- complete without a network -->"
_REMOTE: Final = re.compile(
    r"<script\b.*?</script>"
    r"|<link\b[^>]*\bhref=\"(?:https?:)?//[^>]*>"
    r"|<img\b[^>]*\bsrc=\"(?:https?:)?//[^>]*>"
    r"|<footer\b.*?</footer>",
    re.DOTALL | re.IGNORECASE,
)
_LINK: Final = re.compile(r"<a\b[^>]*\bhref=\"(?:https?:)?//[^>]*>(.*?)</a>", re.DOTALL | re.IGNORECASE)
_STATUS: Final = re.compile(r"Status:.{0,200}?(Succeeded|Failed)", re.DOTALL)
_STYLE: Final = """<style>
:root{color-scheme:light dark}
body{font:15px/1.5 system-ui,sans-serif;max-width:75rem;margin:1.5rem auto;padding:0 1rem}
table{border-collapse:collapse;margin:.5rem 0}
td,th{border:1px solid #8886;padding:.3rem .6rem;text-align:left;vertical-align:top}
code,pre{background:#8882;padding:.1rem .3rem}
ul{padding-left:1.2rem} ol.breadcrumb{list-style:none;padding:0;display:flex;gap:.5rem}
.failed{color:#d1453b} .succeeded{color:#0f9d6e}
[data-toggle=collapse],form,input[type=radio],input[type=radio]+label{display:none}
</style>"""


def make_offline(site: Path) -> None:
    """Rewrite the new pages of a site, and its index.

    Raises:
        OSError: a page cannot be read or written.
    """
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        if _MARK not in text:
            page.write_text(offline(text), encoding="utf-8")
    (site / "index.html").write_text(_index(site), encoding="utf-8")


def offline(text: str) -> str:
    """Return a page without what it would load; links to other sites become their text."""
    bare = _LINK.sub(r"\1", _REMOTE.sub("", text))
    return bare.replace("</head>", f"{_MARK}{_STYLE}</head>", 1)


def _index(site: Path) -> str:
    """Return the list of all landings, newest first, with their status."""
    pages = sorted(site.glob("validations/*/*/*/*.html"), key=lambda page: page.parent.name, reverse=True)
    rows = "".join(_row(site, page) for page in pages)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Data Docs</title>{_MARK}{_STYLE}'
        "</head><body><h1>Data Docs</h1><p>What the expectations found in each landing, newest first.</p>"
        f"<table><tr><th>table</th><th>time (UTC)</th><th>landing</th><th>status</th></tr>{rows}</table>"
        "</body></html>"
    )


def _row(site: Path, page: Path) -> str:
    table, run, stamp = page.parts[-4], page.parts[-3], page.parts[-2]
    found = _STATUS.search(page.read_text(encoding="utf-8"))
    status = found[1] if found else "unknown"
    time = f"{stamp[:4]}-{stamp[4:6]}-{stamp[6:8]} {stamp[9:11]}:{stamp[11:13]}:{stamp[13:15]}"
    address = escape(page.relative_to(site).as_posix())
    return (
        f'<tr><td><a href="expectations/{escape(table)}.html">{escape(table)}</a></td><td>{escape(time)}</td>'
        f'<td><a href="{address}">{escape(run)}</a></td>'
        f'<td class="{status.lower()}">{status}</td></tr>'
    )
