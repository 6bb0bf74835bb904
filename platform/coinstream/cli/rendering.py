"""Provide the formats, refresh loop and progress display of the commands."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Final, Protocol

import typer
from rich.console import RenderableType
from rich.live import Live
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

from coinstream.cli.output import console, print_json, progress_console
from coinstream.errors import CoinstreamError
from coinstream.local_broker import require_broker
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


LINE_EVERY_S: Final = 5.0
"""Interval of progress lines without a terminal, in seconds."""


class ProgressCallback(Protocol):
    """Callback that receives the progress.

    Args:
        done: completed amount in messages, offsets or seconds.
        total: total amount; None if unknown.
        count: number to display with its rate, if it differs from `done`.
        note: additional text.
    """

    def __call__(self, done: float, total: float | None, count: int | None = None, note: str = "") -> None:
        """Show the progress."""


@contextmanager
def progress(title: str, *, quiet: bool = False, unit: str = "messages") -> Iterator[ProgressCallback]:
    """Show the progress of the block on standard error, or nothing if `quiet`."""
    if quiet:
        yield lambda done, total, count=None, note="": None
        return
    clock = _Clock(title, unit)
    if not progress_console.is_terminal:
        yield clock.lines()
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[text]}"),
    )
    with Progress(*columns, console=progress_console, transient=True) as bar:
        task = bar.add_task(title, total=None, text="")

        def tell(done: float, total: float | None, count: int | None = None, note: str = "") -> None:
            bar.update(task, completed=done, total=total, text=clock.text(done, total, count, note))

        yield tell


class _Clock:
    def __init__(self, title: str, unit: str) -> None:
        self._title, self._unit = title, unit
        self._started = time.monotonic()

    def text(self, done: float, total: float | None, count: int | None, note: str) -> str:
        """Return count, rate, remaining time and note as text."""
        seconds = max(time.monotonic() - self._started, 1e-6)
        counted = done if count is None else count
        parts = [f"{counted:,.0f} {self._unit}", f"{counted / seconds:,.0f}/s"]
        if total is not None and count is None:
            parts[0] = f"{counted:,.0f} of {total:,.0f} {self._unit}"
        if total is not None and done:
            parts.append(f"{duration(max(total - done, 0) * seconds / done)} left")
        return "  ".join([*parts, *filter(None, [note])])

    def lines(self) -> ProgressCallback:
        """Return a callback that prints a progress line every `LINE_EVERY_S` seconds."""
        next_at = self._started + LINE_EVERY_S

        def tell(done: float, total: float | None, count: int | None = None, note: str = "") -> None:
            nonlocal next_at
            if time.monotonic() >= next_at:
                next_at = time.monotonic() + LINE_EVERY_S
                line = f"{self._title}: {self.text(done, total, count, note)}"
                progress_console.print(line, soft_wrap=True, markup=False)

        return tell
