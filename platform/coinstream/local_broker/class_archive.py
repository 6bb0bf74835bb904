"""Keep an archive of Kafka's loaded classes, which halves the processor time that Java takes to start.

Java would otherwise parse, verify and link 6,300 classes at each start. `classes.lst.gz` lists them. The
archive is made from it once for each combination of Java and jars, beside the jars. Java ignores an archive
that does not fit. `scripts/class_list.py` writes the list after an update of Kafka.
"""

from __future__ import annotations

import gzip
import hashlib
import logging
import os
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from importlib import resources
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from coinstream.local_broker.jars import FLAGS

log = logging.getLogger(__name__)

CLASS_LIST: Final = "classes.lst.gz"
_PREFIX: Final = "kafka-"
_TIMEOUT_S: Final = 180.0
_UNUSED_S: Final = 30 * 86_400.0
"""An archive that no broker used for so long is removed: that of an earlier Java or Kafka."""


def archive_options(java: Path, classpath: Sequence[Path], folder: Path) -> tuple[str, ...]:
    """Return Java's option for the archive, which is made if it is missing; empty where that is impossible.

    Args:
        java: the program.
        classpath: the jars, in the order of Java's command line.
        folder: where the archive is kept.
    """
    archive = folder / f"{_PREFIX}{_key(java, classpath)}.jsa"
    if not archive.is_file():
        try:
            # Another process that makes it is not waited for: the archive saves seconds only.
            with FileLock(folder / ".archive.lock", timeout=0):
                if not archive.is_file():
                    _make(java, classpath, archive)
        except Timeout:
            return ()
        except (OSError, subprocess.SubprocessError) as error:
            log.info("no archive of Kafka's classes, so Java starts more slowly: %s", error)
            return ()
    with suppress(OSError):  # another user's cache
        os.utime(archive)
    return (f"-XX:SharedArchiveFile={archive}",)


def _key(java: Path, classpath: Sequence[Path]) -> str:
    """Return a digest of all that decides whether Java accepts an archive."""
    digest = hashlib.sha256(_class_list() + " ".join(FLAGS).encode())
    java = java.resolve()
    release = java.parents[1] / "release"
    for path in (java, release, *classpath):
        status = path.stat()
        digest.update(f"{path}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


def _class_list() -> bytes:
    return resources.files(__package__).joinpath(CLASS_LIST).read_bytes()


def _make(java: Path, classpath: Sequence[Path], archive: Path) -> None:
    """Make the archive and remove unused ones.

    Raises:
        OSError: it cannot be stored.
        subprocess.SubprocessError: Java failed, or took too long.
    """
    log.info("making an archive of Kafka's classes in %s (once)", archive.parent)
    with tempfile.TemporaryDirectory(dir=archive.parent, prefix=".archive-") as folder:
        names, made = Path(folder, "classes.lst"), Path(folder, archive.name)
        names.write_bytes(gzip.decompress(_class_list()))
        command = [
            *(str(java), "-Xshare:dump", "-XX:+UseParallelGC", *FLAGS),
            *(f"-XX:SharedClassListFile={names}", f"-XX:SharedArchiveFile={made}"),
            *("-cp", os.pathsep.join(map(str, classpath))),
        ]
        subprocess.run(command, check=True, capture_output=True, timeout=_TIMEOUT_S)
        made.replace(archive)
    for old in archive.parent.glob(f"{_PREFIX}*.jsa"):
        if time.time() - old.stat().st_mtime > _UNUSED_S:
            old.unlink(missing_ok=True)
