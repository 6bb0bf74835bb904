"""Serves `/metrics` over HTTP for Prometheus to scrape."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from wsgiref.simple_server import WSGIServer

from prometheus_client import start_http_server

from coinstream.errors import CoinstreamError
from coinstream.monitoring.metrics import METRICS, Metrics


class ExporterError(CoinstreamError):
    """The metrics endpoint cannot listen where it was told to."""


@dataclass(frozen=True)
class Exporter:
    """A running endpoint. `url` is what Prometheus scrapes."""

    url: str
    port: int


@contextmanager
def exporter(port: int = 0, host: str = "127.0.0.1", metrics: Metrics = METRICS) -> Iterator[Exporter]:
    """Serve the metrics at `http://host:port/metrics` until the block ends. Port 0 picks a free one.

    Raises:
        ExporterError: the port is taken, or the address is not this machine's.
    """
    try:
        server, thread = start_http_server(port, host, metrics.registry)
    except OSError as error:
        raise ExporterError(
            f"cannot serve metrics at {host}:{port}: {error.strerror or error}. "
            "Choose another port (0 picks a free one)."
        ) from None
    bound = server.server_address[1]
    try:
        yield Exporter(f"http://{_for_url(host)}:{bound}/metrics", bound)
    finally:
        _stop(server, thread)


def _stop(server: WSGIServer, thread: threading.Thread) -> None:
    server.shutdown()
    server.server_close()
    thread.join(timeout=5)


def _for_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host
