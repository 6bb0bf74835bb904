"""A lease tells whether the process that took it still runs, without taking a lock."""

from __future__ import annotations

import os
import time
from pathlib import Path

import msgspec
import psutil

from coinstream.feeds.lease import FeedLease


def test_a_holder_is_a_living_process(tmp_path: Path) -> None:
    lease = FeedLease(tmp_path, "feed")
    assert not lease.has_holder(), "no run has taken it yet"
    with lease:
        assert FeedLease(tmp_path, "feed").has_holder()
        assert not FeedLease(tmp_path, "other").has_holder()


def test_a_process_id_that_was_given_again_is_no_holder(tmp_path: Path) -> None:
    """After a power cut another process may have the number of the holder."""
    holder = {"token": 3, "process": os.getpid(), "since": psutil.Process().create_time() - 60}
    (tmp_path / "feed.holder").write_bytes(msgspec.json.encode(holder))
    assert not FeedLease(tmp_path, "feed").has_holder()
    holder |= {"since": time.time()}
    (tmp_path / "feed.holder").write_bytes(msgspec.json.encode(holder))
    assert FeedLease(tmp_path, "feed").has_holder()
