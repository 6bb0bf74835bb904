"""Share the observations of lag between processes, so that all of them evaluate alike.

The lag sensor and the exporter store their polls in one file per cluster in the home folder. Commands and
asset checks read it: a single look then knows the same rewinds, stalls and trends as the alerts.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from coinstream.settings import HomeSettings
from coinstream.settings.storage import private_folder

log = logging.getLogger(__name__)

_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._-]")


class LagHistory:
    """Stored windows by group. Of two writers, the later one replaces the poll of the other.

    Args:
        folder: where the files are.
        writable: whether this process stores its polls.
    """

    def __init__(self, folder: Path, *, writable: bool) -> None:
        self._folder = folder
        self.writable: Final = writable

    def load(self, cluster: str) -> dict[str, Any]:
        """Return the stored windows by group; nothing when there is no file, or none that can be read."""
        path = self._path(cluster)
        try:
            groups = msgspec.json.decode(path.read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            log.warning("cannot read the lag history %s: %s; it starts empty", path, error)
            return {}
        return groups if isinstance(groups, dict) else {}

    def store(self, cluster: str, groups: Mapping[str, Any]) -> None:
        """Replace the stored windows. A folder that cannot be written is reported in the log."""
        path = self._path(cluster)
        draft = path.with_suffix(f".{os.getpid()}.draft")
        try:
            private_folder(path.parent)
            draft.write_bytes(msgspec.json.encode(groups))
            draft.replace(path)
        except OSError as error:
            log.warning("cannot store the lag history %s: %s; other processes do not see it", path, error)

    def _path(self, cluster: str) -> Path:
        return self._folder / f"lag-{_UNSAFE.sub('_', cluster)}.json"


def lag_history(home: HomeSettings | None = None, *, writable: bool = False) -> LagHistory:
    """Return the history of this home folder."""
    return LagHistory((home or HomeSettings()).home / "monitoring", writable=writable)
