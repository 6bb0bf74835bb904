"""Only one run of a feed produces at a time, and the next one takes over without a gap.

A lease is two lock files and a note under `<home>/leases`. The kernel frees a lock when its process dies,
whatever the cause, so no clock decides who holds a lease and a dead holder blocks nobody.

1. The holder produces. A second run is refused, or, when it was started to take over, becomes the successor:
   it connects, keeps what it receives, and says that it is ready.
2. The holder sees that, stops, flushes, leaves a note of the last message of each market, and lets go.
3. The successor publishes what it has kept beyond that note, and goes on.

The locks hold between processes of one machine, or of machines that share a file system whose `flock` does.
On a cluster without one, run each feed from one orchestrator with a concurrency pool of size 1.
"""

from __future__ import annotations

import fcntl
import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Self

import msgspec
import psutil

from coinstream.errors import FeedError

LOOK_EVERY_S: Final = 0.05
"""How often a holder looks for a successor, and a successor for the lease."""


class LeaseError(FeedError):
    """The lease of a feed is held by another run. Names the feed and the process."""


class _Holder(msgspec.Struct):
    token: int = 0
    process: int = 0
    since: float = 0.0


class FeedLease:
    """The right to produce one feed.

    Args:
        folder: where leases lie; the same for all runs.
        feed: the feed's name.
        take_over: wait as successor when another run holds the lease, instead of being refused.

    Attributes:
        token: counts the holders of this lease; higher than that of any run before. 0 until it is held.
    """

    def __init__(self, folder: Path, feed: str, *, take_over: bool = False) -> None:
        self.feed = feed
        self.take_over = take_over
        self.token = 0
        self._folder = folder
        self._name = re.sub(r"[^\w.-]", "_", feed)
        self._lock: IO[bytes] | None = None
        self._next: IO[bytes] | None = None
        self._looked = 0.0

    @property
    def is_held(self) -> bool:
        """Whether this run may produce."""
        return self._lock is not None

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def open(self) -> None:
        """Take the lease, or become the successor of who holds it.

        Raises:
            LeaseError: another run holds it and this one shall not take over, or has a successor already.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        if self.try_acquire():
            return
        holder = self._holder()
        if not self.take_over:
            raise LeaseError(
                f"feed {self.feed} is being run by process {holder.process}; "
                "stop that run, or take over from it (--take-over)"
            )
        self._next = _locked(self._path("next"))
        if self._next is None:
            raise LeaseError(
                f"feed {self.feed} is being run by process {holder.process}, "
                "and another run waits to take over"
            )
        self._path("ready").unlink(missing_ok=True)

    def try_acquire(self) -> bool:
        """Take the lease if nobody holds it; whether it is held now."""
        if self._lock is None:
            self._lock = _locked(self._path("lock"))
            if self._lock is None:
                return False
            self.token = self._holder().token + 1
            _write(self._path("holder"), _Holder(self.token, os.getpid(), time.time()))
            self._path("ready").unlink(missing_ok=True)
            self._free_next()
        return True

    # The successor

    def say_ready(self) -> None:
        """Ask the holder to let go."""
        self._path("ready").touch()

    def take_note(self) -> dict[str, str] | None:
        """What the holder before published last, by market; None when it died without a word."""
        path = self._path("note")
        try:
            return msgspec.json.decode(path.read_bytes(), type=dict[str, str])
        except (FileNotFoundError, msgspec.DecodeError):
            return None
        finally:
            path.unlink(missing_ok=True)

    # The holder

    @property
    def is_wanted(self) -> bool:
        """Whether a successor is ready. Looks at most every `LOOK_EVERY_S`."""
        now = time.monotonic()
        if self._lock is None or now - self._looked < LOOK_EVERY_S:
            return False
        self._looked = now
        if not self._path("ready").exists():
            return False
        orphaned = _locked(self._path("next"))
        if orphaned is None:
            return True
        # It has died since: its word stands for nobody.
        self._path("ready").unlink(missing_ok=True)
        orphaned.close()
        return False

    def release(self, note: Mapping[str, str] | None = None) -> None:
        """Let go, with a note for the successor. What was produced must have been acknowledged."""
        if self._lock is not None:
            if note is not None:
                _write(self._path("note"), dict(note))
            self._lock.close()
            self._lock = None
        self._free_next()

    def _free_next(self) -> None:
        if self._next is not None:
            self._next.close()
            self._next = None

    def _holder(self) -> _Holder:
        try:
            return msgspec.json.decode(self._path("holder").read_bytes(), type=_Holder)
        except (FileNotFoundError, msgspec.DecodeError):
            return _Holder()

    def has_holder(self) -> bool:
        """Return whether the process that took the lease last still runs on this machine.

        It takes no lock, so it never disturbs a run that starts at the same moment.
        """
        holder = self._holder()
        try:
            return psutil.Process(holder.process).create_time() <= holder.since
        except psutil.NoSuchProcess:
            return False

    def _path(self, kind: str) -> Path:
        return self._folder / f"{self._name}.{kind}"


def _locked(path: Path) -> IO[bytes] | None:
    file = path.open("ab")
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


def _write(path: Path, value: Any) -> None:
    """All or nothing, also for who reads at the same moment."""
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    draft.write_bytes(msgspec.json.encode(value))
    draft.replace(path)
