"""Remember in which hour the platform was first used: the tables' partitions begin there."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from coinstream.settings import HomeSettings, LakeSettings
from coinstream.settings.storage import private_folder

FORMAT: Final = "%Y-%m-%d-%H:00"
_BEFORE: Final = "2026-01-01-00:00"
"""First hour of homes that were used before the hour was remembered."""


def first_hour(home: HomeSettings | None = None, lake: LakeSettings | None = None) -> str:
    """Return the first hour: that of the setting, else the remembered one."""
    chosen = (lake or LakeSettings()).first_hour
    if chosen:
        return chosen
    path = _path(home or HomeSettings())
    return path.read_text(encoding="ascii").strip() if path.is_file() else _BEFORE


def remember_first_hour(home: HomeSettings) -> None:
    """Remember this hour, unless one is remembered or the home was used before.

    Raises:
        OSError: the home cannot be written.
    """
    path = _path(home)
    if not path.exists() and not (home.home / "lake").exists():
        private_folder(path.parent)
        path.write_text(datetime.now(UTC).strftime(FORMAT), encoding="ascii")


def _path(home: HomeSettings) -> Path:
    return home.home / "first-hour"
