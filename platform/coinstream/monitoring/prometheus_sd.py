"""Metrics of a process that comes and goes, such as a run of a feed: served, and found by Prometheus.

Beside the endpoint lies a file in Prometheus' own form for discovery (`file_sd_configs`), in
`<home>/metrics`; it is there as long as the process serves.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec
import psutil

from coinstream.monitoring.exporter import Exporter, ExporterError, exporter
from coinstream.monitoring.metrics import METRICS, Metrics
from coinstream.settings import HomeSettings, MetricsSettings
from coinstream.state_folder import private_folder

log = logging.getLogger(__name__)


def targets_folder(home: HomeSettings) -> Path:
    """Where the files for Prometheus lie."""
    return home.home / "metrics"


@contextmanager
def serving_metrics(
    labels: Mapping[str, str],
    settings: MetricsSettings | None = None,
    home: HomeSettings | None = None,
    metrics: Metrics = METRICS,
) -> Iterator[Exporter | None]:
    """Serve this process's metrics at a free port until the block ends, under these further labels.

    A process that cannot serve works on without, and says so in its log: gives None then.
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
        # Of a process that was killed: nobody answers there, or somebody else.
        if not psutil.pid_exists(_process(left)):
            left.unlink(missing_ok=True)
    draft = target.with_suffix(".tmp")
    draft.write_bytes(msgspec.json.encode([{"targets": [address], "labels": dict(labels)}]))
    draft.replace(target)


def _process(target: Path) -> int:
    number = target.name.partition("-")[0]
    return int(number) if number.isdigit() else 0
