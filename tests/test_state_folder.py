"""Folders of state are readable by their user only."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from coinstream.settings.platform import private_folder


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_missing_folders_are_private_and_existing_ones_keep_their_rights(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    made = private_folder(tmp_path / "home" / "monitoring")
    assert [mode(made), mode(made.parent), mode(tmp_path)] == [0o700, 0o700, 0o755]


def test_the_default_home_of_an_earlier_release_is_restricted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    home = tmp_path / ".coinstream"
    home.mkdir(mode=0o755)
    home.chmod(0o755)
    private_folder(home / "logs")
    assert [mode(home), mode(home / "logs")] == [0o700, 0o700]
