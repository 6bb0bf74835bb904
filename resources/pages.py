"""Serve the pages of `docs/` in the web UI, so that runbook links work offline, and links to the explorer."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Final
from urllib.parse import urlencode, urlsplit

from markdown_it import MarkdownIt
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from coinstream.settings import HomeSettings
from coinstream.stack.process import explorer_token

LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")
"""Host names of this machine."""
FOLDER: Final = Path(__file__).parents[1] / "docs"
_HEADING: Final = re.compile(r"<(h[1-4])>(.*?)</\1>")
_PICTURES: Final = (".png", ".svg")
_TAG: Final = re.compile(r"<[^>]+>")
_MARKUP: Final = MarkdownIt("commonmark", {"html": False}).enable("table")
_STYLE: Final = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "table{border-collapse:collapse}td,th{border:1px solid #8886;padding:.3rem .6rem;text-align:left}"
    "img{max-width:100%}code,pre{background:#8882;padding:.1rem .3rem}pre{padding:.6rem;overflow:auto}"
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
    """Serve a page of `docs/`, with or without `.md`, or one of its pictures, or else 404."""
    name = request.path_params["name"].removesuffix(".md")
    picture = (FOLDER / name).resolve()
    if picture.parent == (FOLDER / "images").resolve() and picture.suffix in _PICTURES and picture.is_file():
        # An SVG file that is opened on its own could run scripts of this origin.
        return FileResponse(picture, headers={"Content-Security-Policy": "script-src 'none'"})
    path = (FOLDER / f"{name}.md").resolve()
    if not path.is_relative_to(FOLDER.resolve()) or not path.is_file():
        return PlainTextResponse("no such page\n", status_code=404)
    return HTMLResponse(render(path.read_text(encoding="utf-8"), name))


async def explorer(request: Request) -> Response:
    """Redirect to the explorer with its token, which no asset, log or database then contains.

    Only pages of this web UI may lead there: in a frame of another site, the explorer's buttons could be
    overlaid.
    """
    if request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        return PlainTextResponse("open the explorer from the web UI\n", status_code=403)
    settings = HomeSettings()
    if not settings.explorer_url:
        return PlainTextResponse(
            "no explorer: run `coinstream up`, or set COINSTREAM_EXPLORER_URL\n", status_code=404
        )
    wanted = dict(request.query_params)
    wanted.pop("access_token", None)
    if urlsplit(settings.explorer_url).hostname in LOOPBACK:
        wanted["access_token"] = explorer_token(settings.home)
    headers = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
    return RedirectResponse(f"{settings.explorer_url.rstrip('/')}/?{urlencode(wanted)}", 302, headers)


ROUTES: Final = (
    Route("/docs/{name:path}", page, methods=["GET"]),
    Route("/explorer", explorer, methods=["GET"]),
)
