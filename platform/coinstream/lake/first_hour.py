"""Store the hour in which the platform was first used, which is the first partition of the tables."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from coinstream.files import private_folder
from coinstream.settings import HomeSettings, LakeSettings

log = logging.getLogger("coinstream.lake")

FORMAT: Final = "%Y-%m-%d-%H:00"


def first_hour(home: HomeSettings | None = None, lake: LakeSettings | None = None) -> str:
    """Return the first hour: that of the setting, else the remembered one; remember it at first.

    A home that was used before the hour was remembered begins with the hour of its oldest file: nothing was
    landed earlier.
    """
    chosen = (lake or LakeSettings()).first_hour
    if chosen:
        return chosen
    folder = (home or HomeSettings()).home
    try:
        return remember_first_hour(folder)
    except OSError as error:
        log.warning(
            "cannot remember the first hour in %s (%s): set COINSTREAM_LAKE_FIRST_HOUR",
            folder,
            error.strerror,
        )
        return _first_use(folder)


def remember_first_hour(folder: Path) -> str:
    """Return the remembered hour of a home; remember it when there is none.

    Raises:
        OSError: the home cannot be read or written.
    """
    path = folder / "first-hour"
    if not path.is_file():
        private_folder(folder)
        temporary = path.with_suffix(f".{os.getpid()}-{threading.get_ident()}.tmp")
        temporary.write_text(_first_use(folder), encoding="ascii")
        try:
            os.link(temporary, path)  # of two processes at once, the first one decides
        except FileExistsError:
            log.debug("another process has remembered the first hour")
        finally:
            temporary.unlink()
    return path.read_text(encoding="ascii").strip()


def _first_use(folder: Path) -> str:
    """Return the hour of the oldest file of a home; the present one of an empty home."""
    oldest = min((at for path in _files(folder) if (at := _changed(path)) is not None), default=None)
    moment = datetime.now(UTC) if oldest is None else datetime.fromtimestamp(oldest, UTC)
    return moment.strftime(FORMAT)


def _files(folder: Path) -> Iterator[Path]:
    """Yield the files of a folder and of its folders; deeper ones are not older."""
    for path in folder.glob("*"):
        yield from (path.glob("*") if path.is_dir() else (path,))


def _changed(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except OSError:
        return None  # removed meanwhile
