"""Test the test helpers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

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
