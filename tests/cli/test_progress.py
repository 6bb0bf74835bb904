"""Long work is shown in a pipe too: a line now and then, with count, rate and time left."""

from __future__ import annotations

import itertools
import re
import time

import pytest
from rich.console import Console

from coinstream.cli import rendering as module
from coinstream.cli.rendering import progress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_lines_come_every_few_seconds_with_rate_and_time_left(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with progress("land level1") as tell:
        for second in range(1, 13):
            clock[0] = 100.0 + second
            tell(second * 1000, 20_000, note="level1")
    first, second_line = capsys.readouterr().err.splitlines()
    assert first == "land level1: 5,000 of 20,000 messages  1,000/s  15 s left  level1"
    assert second_line == "land level1: 10,000 of 20,000 messages  1,000/s  10 s left  level1"


def test_the_bound_may_be_another_than_the_count(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with progress("feed binance") as tell:
        clock[0] += 6.0
        tell(6.0, 60.0, 300)
    assert capsys.readouterr().err == "feed binance: 300 messages  50/s  54 s left\n"


def test_quiet_is_quiet(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with progress("work", quiet=True) as tell:
        clock[0] += 60.0
        tell(1, 2)
    assert capsys.readouterr() == ("", "")


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = Console(force_terminal=True, record=True, width=120, highlight=False)
    monkeypatch.setattr(module, "progress_console", shown)
    with progress("applying", unit="topics") as tell:
        for done in itertools.chain(range(10), [10]):
            tell(done, 10, note="crypto-prices")
    text = shown.export_text()
    assert re.search(r"applying .*10 of 10 topics .*/s .*left .*crypto-prices", text)
