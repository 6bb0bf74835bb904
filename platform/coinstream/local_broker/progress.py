"""Shows on standard error that jars are being fetched: a bar on a terminal, two lines elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


@contextmanager
def show_fetching(count: int, folder: Path) -> Iterator[Callable[[str, int], None]]:
    """Show the fetching of `count` jars into `folder`; call what it yields with name and bytes of each."""
    from rich.console import Console

    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(f"fetching {count} jars of Apache Kafka into {folder} (once)")
    fetched: list[int] = []
    if console.is_terminal:
        yield from _bar(console, count, fetched)
    else:
        yield lambda _, size: fetched.append(size)
    console.print(f"fetched {len(fetched)} jars, {sum(fetched) / 1e6:.0f} MB")


def _bar(console: Console, count: int, fetched: list[int]) -> Iterator[Callable[[str, int], None]]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=count)

        def note(name: str, size: int) -> None:
            fetched.append(size)
            bar.update(task, completed=len(fetched), description=name)

        yield note
