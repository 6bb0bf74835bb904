"""Create private folders, and write files whole: a reader sees the old content or the new one."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

PRIVATE: Final = 0o700
"""Mode of folders with the state of the platform."""
_MAX_NAME: Final = 200


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


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary file beside `path`, which replaces it when the block succeeds.

    After an error, `path` is unchanged and the temporary file is deleted. An existing file keeps its mode,
    and a symbolic link its target. A device or a named pipe is yielded itself.

    Raises:
        OSError: the file cannot be written or replaced.
    """
    target = path.resolve()
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if target.exists() and not target.is_file():
        yield target
        return
    draft = target.with_name(f".{target.name[:_MAX_NAME]}.{os.getpid()}-{threading.get_ident()}.tmp")
    try:
        yield draft
        if target.exists():
            draft.chmod(target.stat().st_mode & 0o777)
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)


def write_whole(path: Path, data: bytes) -> None:
    """Write or replace a file in one step.

    Raises:
        OSError: the file cannot be written or replaced.
    """
    with whole_file(path) as draft:
        draft.write_bytes(data)
