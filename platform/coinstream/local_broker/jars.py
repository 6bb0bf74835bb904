"""The jars of Apache Kafka: locked by SHA-256, fetched once by `jgo`, checked before every use."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from coinstream.errors import LocalBrokerError
from coinstream.local_broker.locks import exclusive_lock
from coinstream.local_broker.progress import show_fetching

LOCK_NAME = "jars.lock"
_PARALLEL_DOWNLOADS = 8
_FETCH_DEADLINE_S = 600.0
_ATTEMPTS = 3

Fetched = Callable[[str, int], None]
"""Told the name and the bytes of each jar that has come."""
Progress = Callable[[int, Path], AbstractContextManager[Fetched]]
"""Told how many jars are about to be fetched, and where to; open while that lasts."""


@dataclass(frozen=True, slots=True)
class LockedJar:
    """One line of the lock: which artifact, and the SHA-256 that its bytes must have."""

    coordinate: str
    """`group:artifact:version`."""
    sha256: str

    @property
    def relative_path(self) -> Path:
        """Where a Maven repository keeps the jar."""
        group, artifact, version = self.coordinate.split(":")
        return Path(*group.split("."), artifact, version, f"{artifact}-{version}.jar")


def jar_cache() -> Path:
    """Return the folder of the jars. All homes of a user share it; `XDG_CACHE_HOME` moves it."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "coinstream" / "jars"


def read_lock() -> tuple[LockedJar, ...]:
    """Return the locked jars, in the order of the class path."""
    text = resources.files(__package__).joinpath(LOCK_NAME).read_text(encoding="utf-8")
    lines = (line.split() for line in text.splitlines() if line and not line.startswith("#"))
    return tuple(LockedJar(coordinate, sha256) for coordinate, sha256 in lines)


def classpath(
    cache: Path | None = None,
    progress: Progress = show_fetching,
    lock: Sequence[LockedJar] | None = None,
) -> list[Path]:
    """Return the jars of the lock on this machine, each with the right SHA-256. Fetches what is missing.

    Hashing all jars takes a tenth of a second, so it is done each time instead of being remembered.

    Raises:
        LocalBrokerError: a jar cannot be fetched or stored, or has other bytes than the lock says.
    """
    folder = cache or jar_cache()
    jars = read_lock() if lock is None else tuple(lock)
    if _wrong(jars, folder):
        _fetch_missing(jars, folder, progress)
    return [folder / jar.relative_path for jar in jars]


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _wrong(jars: Iterable[LockedJar], folder: Path) -> list[LockedJar]:
    def is_wrong(jar: LockedJar) -> bool:
        path = folder / jar.relative_path
        return not path.is_file() or sha256_of(path) != jar.sha256

    jars = list(jars)
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        return [jar for jar, wrong in zip(jars, pool.map(is_wrong, jars), strict=True) if wrong]


def _fetch_missing(jars: tuple[LockedJar, ...], folder: Path, progress: Progress) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with exclusive_lock(folder / ".lock", _FETCH_DEADLINE_S, "another process fetches the jars of Kafka"):
            # Whoever held the lock before may have fetched them all.
            missing = _wrong(jars, folder)
            if missing:
                with progress(len(missing), folder) as fetched:
                    _fetch(missing, folder, fetched)
    except OSError as error:
        raise LocalBrokerError(
            f"cannot store the jars of Kafka in {folder}: {error}; "
            "make room, make the folder writable, or set XDG_CACHE_HOME to another one"
        ) from error


def _fetch(missing: list[LockedJar], folder: Path, fetched: Fetched) -> None:
    with ThreadPoolExecutor(max_workers=_PARALLEL_DOWNLOADS) as pool:
        for work in as_completed([pool.submit(_fetch_one, jar, folder) for jar in missing]):
            path = work.result()
            fetched(path.name, path.stat().st_size)


def _fetch_one(jar: LockedJar, folder: Path) -> Path:
    import requests
    import tenacity
    from jgo.config import GlobalSettings
    from jgo.constants import MAVEN_CENTRAL_URL
    from jgo.maven import MavenContext

    path = folder / jar.relative_path
    # What is there has the wrong bytes: a download that was cut short, or a change on disk.
    path.unlink(missing_ok=True)
    repositories = {**GlobalSettings.load().repositories, "central": MAVEN_CENTRAL_URL}
    context = MavenContext(repo_cache=folder, remote_repos=repositories, timeout=60)
    group, artifact, version = jar.coordinate.split(":")
    wanted = context.project(group, artifact).at_version(version).artifact()
    # One dropped connection among some fifty downloads is nothing to bother the user with.
    again = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(_ATTEMPTS),
        wait=tenacity.wait_exponential(0.5),
        retry=tenacity.retry_if_exception_type((requests.RequestException, RuntimeError)),
        reraise=True,
    )
    try:
        again(wanted.resolve)
    except (requests.RequestException, RuntimeError) as error:
        raise LocalBrokerError(
            f"cannot fetch {jar.coordinate} for the local broker: {error}; "
            "check the network and the proxy settings, or set REDPANDA_BROKERS to use a cluster instead"
        ) from error
    actual = sha256_of(path)
    if actual != jar.sha256:
        path.unlink()
        raise LocalBrokerError(
            f"{jar.coordinate} has SHA-256 {actual}, but the lock says {jar.sha256}; it was removed unused. "
            "The repository or a proxy serves other bytes than those that were locked: do not run them"
        )
    return path
