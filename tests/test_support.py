"""Test the test helpers."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier, Event
from typing import Any

import pytest

from tests.support import first_alone, wait_until

CHILD = "import signal; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
PARENT = f"""
import subprocess, sys
from tests.support import restore_sigint

if sys.argv[1] == "restore":
    restore_sigint()
subprocess.run([sys.executable, "-c", {CHILD!r}], check=True)
"""


@pytest.mark.parametrize(("action", "expected"), [("restore", "True"), ("nothing", "False")])
def test_a_background_job_gives_its_children_the_default_for_sigint(action: str, expected: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PARENT, action],
        capture_output=True,
        text=True,
        check=True,
        # What a shell without job control does for a command that ends with &.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )
    assert done.stdout.strip() == expected


def test_the_suite_itself_does_not_ignore_sigint() -> None:
    assert signal.getsignal(signal.SIGINT) is not signal.SIG_IGN


@pytest.mark.skipif("PYTEST_XDIST_WORKER" not in os.environ, reason="needs several test processes")
def test_the_tests_of_a_file_run_in_one_process(request: pytest.FixtureRequest) -> None:
    # pytest-xdist schedules by what follows the @; without it each process would start every shared fixture.
    assert request.node.nodeid.endswith("@tests/test_support.py")


def test_the_first_is_alone_and_all_others_are_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "lock"
    file.touch()
    first_is_in, first_may_go, together = Event(), Event(), Barrier(3)
    inside: list[str] = []
    lock, waiting = fcntl.flock, list[int]()

    def counted(file: Any, operation: int) -> None:
        if operation == fcntl.LOCK_SH:
            waiting.append(operation)
        lock(file, operation)

    monkeypatch.setattr(fcntl, "flock", counted)

    def first() -> None:
        with first_alone(file):
            first_is_in.set()
            assert first_may_go.wait(60)
            inside.append("first")

    def later() -> None:
        with first_alone(file):
            inside.append("later")
            # Broken unless all three are inside at once.
            together.wait(60)

    with ThreadPoolExecutor(4) as pool:
        running = [pool.submit(first)]
        assert first_is_in.wait(60)
        running += [pool.submit(later) for _ in range(3)]
        wait_until(lambda: len(waiting) == 3, what="the others wait")
        first_may_go.set()
        for each in running:
            each.result(120)
    assert inside == ["first", "later", "later", "later"]
