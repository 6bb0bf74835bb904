"""The tables' partitions begin with the first use of the home."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from coinstream.lake.first_hour import FORMAT, first_hour, remember_first_hour
from coinstream.settings import HomeSettings


def test_a_new_home_begins_with_its_first_hour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = HomeSettings(home=tmp_path / "home")
    before = datetime.now(UTC).strftime(FORMAT)
    remember_first_hour(home)
    found = first_hour(home)
    assert before <= found <= datetime.now(UTC).strftime(FORMAT)
    (home.home / "first-hour").write_text("2026-02-03-04:00")
    remember_first_hour(home)
    assert first_hour(home) == "2026-02-03-04:00", "it is remembered once"
    monkeypatch.setenv("COINSTREAM_LAKE_FIRST_HOUR", "2025-01-01-00:00")
    assert first_hour(home) == "2025-01-01-00:00"


def test_a_home_of_an_earlier_release_keeps_its_partitions(tmp_path: Path) -> None:
    home = HomeSettings(home=tmp_path)
    (tmp_path / "lake").mkdir()
    remember_first_hour(home)
    assert first_hour(home) == "2026-01-01-00:00"
