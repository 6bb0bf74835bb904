"""Serve the pages of `docs/` in the web UI, so that runbook links in alerts work offline."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Final

from markdown_it import MarkdownIt
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

FOLDER: Final = Path(__file__).parents[1] / "docs"
_HEADING: Final = re.compile(r"<(h[1-4])>(.*?)</\1>")
_TAG: Final = re.compile(r"<[^>]+>")
_MARKUP: Final = MarkdownIt("commonmark", {"html": False}).enable("table")
_STYLE: Final = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "table{border-collapse:collapse}td,th{border:1px solid #8886;padding:.3rem .6rem;text-align:left}"
    "code,pre{background:#8882;padding:.1rem .3rem}pre{padding:.6rem;overflow:auto}"
    "@media(prefers-color-scheme:dark){body{background:#181a1f;color:#ddd}a{color:#8ab4f8}}"
)


def render(markdown: str, title: str) -> str:
    """Render a page with an anchor at every heading, named as on GitHub and in mkdocs."""
    body = _HEADING.sub(_with_anchor, _MARKUP.render(markdown))
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(title)}</title>"
        f"<style>{_STYLE}</style><body>{body}</body></html>"
    )


def anchor_of(heading: str) -> str:
    """Return the anchor of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def _with_anchor(found: re.Match[str]) -> str:
    tag, content = found.groups()
    anchor = anchor_of(html.unescape(_TAG.sub("", content)))
    return f'<{tag} id="{html.escape(anchor)}">{content}</{tag}>'


async def page(request: Request) -> Response:
    """Serve a page of `docs/`, with or without `.md`, or else 404."""
    name = request.path_params["name"].removesuffix(".md")
    path = (FOLDER / f"{name}.md").resolve()
    if not path.is_relative_to(FOLDER.resolve()) or not path.is_file():
        return PlainTextResponse("no such page\n", status_code=404)
    return HTMLResponse(render(path.read_text(encoding="utf-8"), name))


ROUTE: Final = Route("/docs/{name:path}", page, methods=["GET"])
