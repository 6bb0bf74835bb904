"""Serve metrics of the cluster to Prometheus: `coinstream metrics`."""

from __future__ import annotations

import threading
from typing import Annotated

import typer

from coinstream.cli.output import progress_console
from coinstream.cli.rendering import Interval, asked_broker

app = typer.Typer()

_EXAMPLES = """
Examples:

coinstream metrics --port 9108

coinstream metrics --once   (print the metrics once)
"""


@app.command(epilog=_EXAMPLES)
def metrics(
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")
    ] = 9108,
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 allows other machines.")
    ] = "127.0.0.1",
    interval: Interval = 15.0,
    once: Annotated[bool, typer.Option("--once", help="Measure once, print and exit.")] = False,
) -> None:
    """Serve Prometheus metrics of lag, group status, topics and brokers, measured every few seconds.

    Metrics of producers and consumers are served by their own processes.
    """
    from coinstream.monitoring.exporter import exporter
    from coinstream.monitoring.metrics import METRICS
    from coinstream.monitoring.monitor import Monitor

    monitor = Monitor(asked_broker())
    succeeded = monitor.measure()
    if once:
        from prometheus_client import generate_latest

        typer.echo(generate_latest(METRICS.registry).decode(), nl=False)
        raise typer.Exit(0 if succeeded else 1)
    with exporter(port, host) as running:
        progress_console.print(f"Metrics at {running.url}. Ctrl-C stops.")
        stop = threading.Event()
        try:
            monitor.run(stop, interval)
        except KeyboardInterrupt:
            raise typer.Exit(0) from None
