"""Create folders for the platform's state, readable by their user only."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

PRIVATE: Final = 0o700


def private_folder(path: Path) -> Path:
    """Create a folder and its missing parents with mode 0700, and return it.

    A folder of the default home (`~/.coinstream`) that an earlier release created with other permissions is
    restricted too. An existing folder chosen by the user keeps its permissions.

    Raises:
        OSError: the folder cannot be created.
    """
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    for folder in reversed(missing):
        folder.mkdir(mode=PRIVATE, exist_ok=True)
    default = Path.home() / ".coinstream"
    for folder in (default, path):
        is_ours = folder == default or default in folder.parents
        if is_ours and folder.is_dir() and folder.stat().st_uid == os.geteuid():
            folder.chmod(PRIVATE)
    return path
