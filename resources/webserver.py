"""Serve Dagster's web UI with protection against cross-site requests.

Dagster's web server has no login and accepts GraphQL mutations from any page. This launcher adds middleware
that checks the headers `Host`, `Origin` and `Sec-Fetch-Site`. It does not authenticate users;
docs/security.md describes a proxy that does.

Usage: `python -m resources.webserver --port 3000 --workspace workspace.yaml`.
"""

from __future__ import annotations

import argparse
import logging
import os
import socket
import time
from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit

import dagster as dg
import uvicorn
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import WorkspaceFileTarget
from dagster_webserver.app import create_app_from_workspace_process_context
from dagster_webserver.version import __version__
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from coinstream.settings import AlertSettings
from resources import pages
from resources.orphaned_runs import fail_orphaned_runs

log = logging.getLogger("coinstream.webserver")

SINCE: Final = "COINSTREAM_UP_SINCE"
"""Environment variable with the start of `coinstream up` in Unix seconds."""
_STATEMENT_TIMEOUT_MS: Final = 15_000
_POOL_RECYCLE_S: Final = 3_600
_POOL_OVERFLOW: Final = 20
_POLL_S: Final = 0.1
_POLICY_VIOLATION: Final = 1008


class SameOriginMiddleware:
    """ASGI middleware that refuses requests for other hosts and from other origins.

    Args:
        app: wrapped application.
        hosts: host names of the web UI; ports are ignored.
    """

    def __init__(self, app: ASGIApp, hosts: Iterable[str]) -> None:
        self._app = app
        self._hosts = frozenset(host.lower() for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward the request, or respond with 403."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        reason = self.refusal(Headers(scope=scope), str(scope.get("method", "GET")), str(scope["path"]))
        if reason is None:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": _POLICY_VIOLATION, "reason": reason})
        else:
            await PlainTextResponse(f"{reason}\n", status_code=403)(scope, receive, send)

    def refusal(self, headers: Headers, method: str, path: str) -> str | None:
        """Return the reason why a request is refused, or None."""
        host = headers.get("host", "")
        if _hostname(f"//{host}") not in self._hosts:
            return f"unknown host {host!r}: set COINSTREAM_UI_URL to the address of this web UI"
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            return f"requests from pages of {origin!r} are refused"
        site = headers.get("sec-fetch-site", "none")
        is_link = method == "GET" and headers.get("sec-fetch-mode") == "navigate" and "graphql" not in path
        if site not in ("none", "same-origin") and not is_link:
            return "requests from pages of other sites are refused"
        return None


def allowed_hosts(ui_url: str, more: Iterable[str] = ()) -> tuple[str, ...]:
    """Return the host names of the web UI: loopback, the host of its URL, and additional ones."""
    configured = _hostname(ui_url)
    return tuple(name for name in (*pages.LOOPBACK, configured, *more) if name)


def _hostname(url: str) -> str:
    try:
        return (urlsplit(url).hostname or "").lower()
    except ValueError:
        return ""


def guarded_app(context: WorkspaceProcessContext, hosts: Iterable[str]) -> Starlette:
    """Return Dagster's web application with the middleware."""
    app = create_app_from_workspace_process_context(context)
    # Before Dagster's routes, the last of which matches every path.
    app.router.routes[:0] = pages.ROUTES
    app.add_middleware(SameOriginMiddleware, hosts=tuple(hosts))
    return app


def _wait_for(address: str) -> None:
    """Wait until a server listens, which may take as long as the start of this process."""
    host, _, port = address.rpartition(":")
    while True:
        try:
            socket.create_connection((host, int(port)), timeout=1).close()
        except OSError:
            time.sleep(_POLL_S)
        else:
            return


def main(arguments: list[str] | None = None) -> None:
    """Serve until the process is terminated."""
    parser = argparse.ArgumentParser(prog="python -m resources.webserver", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=3000, help="port to listen on")
    parser.add_argument("--workspace", default="workspace.yaml", help="Dagster's workspace file")
    parser.add_argument("--wait-for", metavar="HOST:PORT", help="wait until this code server listens")
    parser.add_argument(
        "--allow-host", action="append", default=[], help="an additional host name of this server"
    )
    chosen = parser.parse_args(arguments)
    # The code server creates Dagster's storage at the first start; concurrent creation fails.
    if chosen.wait_for:
        _wait_for(chosen.wait_for)
    with dg.DagsterInstance.get() as instance:
        instance.optimize_for_webserver(_STATEMENT_TIMEOUT_MS, _POOL_RECYCLE_S, _POOL_OVERFLOW)
        if since := os.environ.get(SINCE):
            failed = fail_orphaned_runs(instance, float(since))
            if failed:
                log.warning("%d run(s) of an earlier `coinstream up` had no process and are failed", failed)
        target = WorkspaceFileTarget([chosen.workspace])
        with WorkspaceProcessContext(instance, target, version=__version__) as context:
            hosts = allowed_hosts(AlertSettings().ui_url, chosen.allow_host)
            uvicorn.run(guarded_app(context, hosts), host=chosen.host, port=chosen.port, log_level="warning")


if __name__ == "__main__":
    main()
