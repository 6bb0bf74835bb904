"""Provide the broker, refresh loop and formats of the monitoring commands."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Annotated, Final

import typer
from rich.console import RenderableType
from rich.live import Live

from coinstream.brokers import require_broker
from coinstream.cli.output import console, print_json
from coinstream.errors import CoinstreamError
from coinstream.monitoring.evaluation import PartitionStatus
from coinstream.monitoring.group_lag import GroupStatus, Status
from coinstream.settings import BrokerSettings, HomeSettings

Interval = Annotated[float, typer.Option("--interval", "-n", min=0.1, help="Seconds between two refreshes.")]

_PATIENCE_MS: Final = 5_000
_STYLES: Final = {
    "ok": "green",
    "warn": "yellow",
    "behind": "red",
    "rewind": "magenta",
    "stall": "red",
    "stop": "bold red",
    "healthy": "green",
    "degraded": "yellow",
    "unhealthy": "bold red",
}


def asked_broker() -> BrokerSettings:
    """Return the configured broker or the running local one, with short timeouts and without starting one.

    Raises:
        BrokerError: no broker is configured or running.
    """
    found = require_broker(BrokerSettings(), HomeSettings())
    return found.model_copy(update={"request_timeout_ms": min(found.request_timeout_ms, _PATIENCE_MS)})


def styled(value: PartitionStatus | GroupStatus | Status) -> str:
    """Return a status in its colour."""
    return f"[{_STYLES[value]}]{value}[/]"


def duration(seconds: float | None) -> str:
    """Format seconds as `850 ms`, `42 s`, `3 min 5 s`, `2 h 10 min` or `3 d 4 h`."""
    if seconds is None:
        return "?"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms" if seconds else "0 s"
    whole = int(seconds)
    for size, name, part, part_name in (
        (86_400, "d", 3_600, "h"),
        (3_600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if whole >= size:
            return f"{whole // size} {name} {whole % size // part} {part_name}"
    return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"


def per_second(rate: float | None) -> str:
    """Format a trend with its sign, or `-` if it is unknown."""
    return "-" if rate is None else f"{rate:+,.1f}/s" if rate else "0/s"


def repeat(interval_s: float) -> Iterator[None]:
    """Yield now, and then every `interval_s` seconds without end."""
    while True:
        started = time.monotonic()
        yield
        time.sleep(max(interval_s - (time.monotonic() - started), 0.05))


def stream(look: Callable[[], object], interval_s: float) -> None:
    """Print the result of `look` as a JSON line at each interval until Ctrl-C; an error is a line too."""
    try:
        for _ in repeat(interval_s):
            try:
                print_json(look())
            except CoinstreamError as error:
                print_json({"error": str(error)})
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


def watch(look: Callable[[], RenderableType], interval_s: float) -> None:
    """Show the result of `look` at each interval until Ctrl-C, in place on a terminal, appended in a pipe.

    An error is shown without ending the loop, because the broker may come back.
    """
    try:
        if not console.is_terminal:
            for _ in repeat(interval_s):
                console.print(_look(look))
            return
        with Live(_look(look), console=console, auto_refresh=False, screen=False) as live:
            for _ in repeat(interval_s):
                live.update(_look(look), refresh=True)
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


def _look(look: Callable[[], RenderableType]) -> RenderableType:
    try:
        return look()
    except CoinstreamError as error:
        return f"[red]error:[/] {error}"
