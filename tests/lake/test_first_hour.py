"""Test that the tables' partitions start at the first use of the home folder."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from coinstream.lake.first_hour import FORMAT, first_hour, remember_first_hour
from coinstream.settings import HomeSettings


@pytest.fixture(autouse=True)
def _without_a_chosen_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COINSTREAM_LAKE_FIRST_HOUR", raising=False)


def test_a_new_home_begins_with_its_first_hour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = HomeSettings(home=tmp_path / "home")
    before = datetime.now(UTC).strftime(FORMAT)
    found = first_hour(home)
    assert before <= found <= datetime.now(UTC).strftime(FORMAT)
    assert first_hour(home) == found == (home.home / "first-hour").read_text()
    (home.home / "first-hour").write_text("2026-02-03-04:00")
    assert first_hour(home) == "2026-02-03-04:00", "it is remembered once"
    monkeypatch.setenv("COINSTREAM_LAKE_FIRST_HOUR", "2025-01-01-00:00")
    assert first_hour(home) == "2025-01-01-00:00"


def test_a_home_of_an_earlier_release_begins_with_its_oldest_file(tmp_path: Path) -> None:
    used = datetime(2026, 3, 4, 5, 59, tzinfo=UTC).timestamp()
    for name, at in (
        ("lake/catalogue.db", used + 10_000),
        ("leases/binance.lock", used),
        ("up.lock", used + 1),
    ):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
        os.utime(path, (at, at))
    assert first_hour(HomeSettings(home=tmp_path)) == "2026-03-04-05:00"
    (tmp_path / "leases" / "binance.lock").unlink()
    assert first_hour(HomeSettings(home=tmp_path)) == "2026-03-04-05:00"


def test_processes_that_start_together_agree(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as together:
        found = set(together.map(remember_first_hour, [tmp_path] * 8))
    assert len(found) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["first-hour"]


def test_a_home_that_cannot_be_written_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    occupied = tmp_path / "file"
    occupied.touch()
    found = first_hour(HomeSettings(home=occupied / "home"))
    assert found <= datetime.now(UTC).strftime(FORMAT)
    assert "COINSTREAM_LAKE_FIRST_HOUR" in caplog.text
