"""Tables stay readable in a terminal of 40 columns."""

from __future__ import annotations

import io

import pytest
from rich.table import Table
from rich.text import Text

from coinstream.cli import output

WIDTH = 40
TOPICS = ("crypto-derivatives.dlq", "crypto-level1")


def table() -> Table:
    """Return a table that needs more than 40 columns."""
    made = Table("topic", "partitions", "retention ms", "reason", box=None)
    for name in TOPICS:
        made.add_row(name, "48", Text("7776000000"), "")
    return made


def printed(width: int, what: Table, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return what a console of that width prints."""
    monkeypatch.setenv("COLUMNS", str(width))
    console = output._console(stderr=False)
    console.file = io.StringIO()
    console.print(what)
    return console.file.getvalue()


def test_a_table_that_does_not_fit_becomes_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = printed(WIDTH, table(), monkeypatch).splitlines()
    assert max(map(len, lines)) <= WIDTH
    assert lines[:4] == ["topic: crypto-derivatives.dlq", "partitions: 48", "retention ms: 7776000000", ""]
    assert lines[4] == "topic: crypto-level1"
    assert not any("…" in line for line in lines)


def test_long_values_are_folded_and_lose_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Table("key", "value", box=None)
    made.add_row("[bold]a[/]", "x" * 100)
    text = printed(WIDTH, made, monkeypatch)
    assert max(map(len, text.splitlines())) <= WIDTH
    assert text.count("x") == 100
    assert text.startswith("key: a")


def test_a_table_that_fits_and_a_wide_terminal_keep_their_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    small = Table("topic", "records", box=None)
    small.add_row("crypto-level1", "7")
    assert printed(WIDTH, small, monkeypatch).splitlines()[0].split() == ["topic", "records"]
    assert printed(100, table(), monkeypatch).splitlines()[0].split()[0] == "topic"


def test_a_pipe_has_room_unless_columns_are_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    assert output._console(stderr=False).width == 200
    monkeypatch.setenv("COLUMNS", "40")
    assert output._console(stderr=False).width == WIDTH
