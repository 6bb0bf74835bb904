"""Show the progress of long commands: a bar on a terminal, a line every few seconds in a pipe."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Protocol

from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

from coinstream.cli.output import progress_console
from coinstream.cli.rendering import duration

LINE_EVERY_S: Final = 5.0
"""Interval of progress lines without a terminal, in seconds."""


class Tell(Protocol):
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
def progress(title: str, *, quiet: bool = False, unit: str = "messages") -> Iterator[Tell]:
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

    def lines(self) -> Tell:
        """Return a callback that prints a progress line every `LINE_EVERY_S` seconds."""
        next_at = self._started + LINE_EVERY_S

        def tell(done: float, total: float | None, count: int | None = None, note: str = "") -> None:
            nonlocal next_at
            if time.monotonic() >= next_at:
                next_at = time.monotonic() + LINE_EVERY_S
                line = f"{self._title}: {self.text(done, total, count, note)}"
                progress_console.print(line, soft_wrap=True, markup=False)

        return tell
