"""Serve `/metrics` over HTTP, and register the endpoint for Prometheus.

A file in `<home>/metrics` in the format of Prometheus' file discovery (`file_sd_configs`) exists while the
process serves.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from wsgiref.simple_server import WSGIServer

import msgspec
import psutil
from prometheus_client import start_http_server

from coinstream.errors import CoinstreamError
from coinstream.files import private_folder, write_whole
from coinstream.monitoring.metrics import METRICS, Metrics
from coinstream.settings import HomeSettings, MetricsSettings


class ExporterError(CoinstreamError):
    """The metrics endpoint cannot listen on its address."""


@dataclass(frozen=True)
class Exporter:
    """Running metrics endpoint. `url` is its URL for Prometheus."""

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


log = logging.getLogger(__name__)


def targets_folder(home: HomeSettings) -> Path:
    """Return the folder of the discovery files."""
    return home.home / "metrics"


@contextmanager
def serving_metrics(
    labels: Mapping[str, str],
    settings: MetricsSettings | None = None,
    home: HomeSettings | None = None,
    metrics: Metrics = METRICS,
) -> Iterator[Exporter | None]:
    """Serve this process's metrics at a free port until the block ends, with additional labels.

    Yields None, and logs a warning, if the endpoint cannot be served.
    """
    chosen, folder = settings or MetricsSettings(), targets_folder(home or HomeSettings())
    with ExitStack() as stack:
        try:
            served = stack.enter_context(exporter(0, chosen.host, metrics))
            target = folder / f"{os.getpid()}-{served.port}.json"
            stack.callback(target.unlink, missing_ok=True)
            _announce(target, f"{chosen.advertised or chosen.host}:{served.port}", labels)
            running: Exporter | None = served
        except (ExporterError, OSError) as error:
            log.warning("metrics of this process are not served: %s", error)
            running = None
        yield running


def _announce(target: Path, address: str, labels: Mapping[str, str]) -> None:
    private_folder(target.parent)
    for left in target.parent.glob("*-*.json"):
        # Left by a killed process: its port is closed, or used by another process.
        if not psutil.pid_exists(_process(left)):
            left.unlink(missing_ok=True)
    write_whole(target, msgspec.json.encode([{"targets": [address], "labels": dict(labels)}]))


def _process(target: Path) -> int:
    number = target.name.partition("-")[0]
    return int(number) if number.isdigit() else 0
