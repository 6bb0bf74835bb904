"""Restrict each feed to one producing run, and hand it to a successor without a gap.

A lease consists of two lock files and a checkpoint under `<home>/leases`. The kernel releases the locks when
their process ends for any reason, so a lease needs no timeout.

1. The holder publishes. A second run is refused unless it was started to take over. Such a successor
   connects, buffers messages and signals that it is ready.
2. The holder stops, flushes, writes the last message of each market as a checkpoint, and releases the
   lease.
3. The successor publishes its buffered messages after the checkpoint and continues.

The locks work between processes of one machine, and between machines with a shared file system that supports
`flock`. Otherwise run each feed from one orchestrator with a concurrency pool of size 1.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import msgspec
import psutil
from filelock import FileLock, Timeout

from coinstream.errors import FeedError
from coinstream.files import write_whole

LOOK_EVERY_S: Final = 0.05
"""Seconds between a holder's checks for a successor, and a successor's attempts to acquire the lease."""


class LeaseError(FeedError):
    """The lease of a feed is held by another run; the message names the feed and the process."""


class _Holder(msgspec.Struct):
    token: int = 0
    process: int = 0
    since: float = 0.0


class FeedLease:
    """The right to produce one feed.

    Args:
        folder: folder of the leases; the same for all runs.
        feed: name of the feed.
        take_over: wait as successor if another run holds the lease, instead of raising `LeaseError`.

    Attributes:
        token: fencing token, one higher than that of the previous holder; 0 until the lease is held.
    """

    def __init__(self, folder: Path, feed: str, *, take_over: bool = False) -> None:
        self.feed = feed
        self.take_over = take_over
        self.token = 0
        self._folder = folder
        self._name = re.sub(r"[^\w.-]", "_", feed)
        self._lock: FileLock | None = None
        self._next: FileLock | None = None
        self._looked = 0.0

    @property
    def is_held(self) -> bool:
        """Return whether this run holds the lease and may publish."""
        return self._lock is not None

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def open(self) -> None:
        """Acquire the lease, or become the successor of its holder.

        Raises:
            LeaseError: another run holds the lease and `take_over` is false, or a successor already waits.
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
        """Acquire the lease if it is free.

        Returns:
            Whether this run holds the lease now.
        """
        if self._lock is None:
            self._lock = _locked(self._path("lock"))
            if self._lock is None:
                return False
            self.token = self._holder().token + 1
            write_whole(
                self._path("holder"), msgspec.json.encode(_Holder(self.token, os.getpid(), time.time()))
            )
            self._path("ready").unlink(missing_ok=True)
            self._free_next()
        return True

    # The successor

    def signal_ready(self) -> None:
        """Signal to the holder that this successor is ready."""
        self._path("ready").touch()

    def read_checkpoint(self) -> dict[str, str] | None:
        """Read and delete the checkpoint of the previous holder.

        Returns:
            The last message of each market, or None if the holder ended without a checkpoint.
        """
        path = self._path("note")
        try:
            return msgspec.json.decode(path.read_bytes(), type=dict[str, str])
        except (FileNotFoundError, msgspec.DecodeError):
            return None
        finally:
            path.unlink(missing_ok=True)

    # The holder

    @property
    def has_successor(self) -> bool:
        """Return whether a successor is ready, checking at most every `LOOK_EVERY_S`."""
        now = time.monotonic()
        if self._lock is None or now - self._looked < LOOK_EVERY_S:
            return False
        self._looked = now
        if not self._path("ready").exists():
            return False
        orphaned = _locked(self._path("next"))
        if orphaned is None:
            return True
        # The lock is free: the successor has died, and its signal is stale.
        self._path("ready").unlink(missing_ok=True)
        orphaned.release()
        return False

    def release(self, checkpoint: Mapping[str, str] | None = None) -> None:
        """Release the lease with a checkpoint for the successor. Flush all messages before."""
        if self._lock is not None:
            if checkpoint is not None:
                write_whole(self._path("note"), msgspec.json.encode(dict(checkpoint)))
            self._lock.release()
            self._lock = None
        self._free_next()

    def _free_next(self) -> None:
        if self._next is not None:
            self._next.release()
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


def _locked(path: Path) -> FileLock | None:
    # A run may release the lease in another thread. On a file system without `flock` it fails: a lock by
    # existence of the file would outlive a killed run.
    lock = FileLock(path, thread_local=False, fallback_to_soft=False)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return None
    return lock
