"""Test that the supervisor stops a command with all its descendants."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import psutil
import pytest

from coinstream.errors import PlatformError
from coinstream.stack.process import SupervisedProcess
from tests.support import wait_until

pytestmark = pytest.mark.system

STUBBORN = """
    import os, signal, sys, time
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    open(sys.argv[1], "a").write(f"{os.getpid()}\\n")
    while True: time.sleep(1)
"""
FAMILY = """
    import os, subprocess, sys, time
    # A grandchild in a group of its own, whose parent is gone at once; and one that stays.
    inner = "import subprocess, sys; subprocess.Popen([sys.executable, *sys.argv[1:]], process_group=0)"
    subprocess.run([sys.executable, "-c", inner, "-c", sys.argv[2], sys.argv[1]], check=True)
    subprocess.Popen([sys.executable, "-c", sys.argv[2], sys.argv[1]])
    open(sys.argv[1], "a").write(f"{os.getpid()}\\n")
    while True: time.sleep(1)
"""
OWNER = """
    import sys, time
    from pathlib import Path
    from coinstream.stack.process import SupervisedProcess
    child = SupervisedProcess("family", [sys.executable, "-c", *sys.argv[2:]], log=Path(sys.argv[1]),
                  environment={}, folder=Path("/"), grace_s=1)
    while True: time.sleep(1)
"""


def code(text: str) -> str:
    return textwrap.dedent(text)


def pids(file: Path, count: int) -> list[psutil.Process]:
    """Return the processes that wrote their ids, once there are `count`."""
    wait_until(lambda: file.is_file() and file.read_text().count("\n") >= count, what=f"{count} processes")
    return [psutil.Process(int(pid)) for pid in file.read_text().split()]


def assert_gone(processes: list[psutil.Process]) -> None:
    _, left = psutil.wait_procs(processes, timeout=30)
    assert not left


def test_releasing_ends_the_whole_family(tmp_path: Path) -> None:
    file = tmp_path / "pids"
    child = SupervisedProcess(
        "family",
        [sys.executable, "-c", code(FAMILY), str(file), code(STUBBORN)],
        log=tmp_path / "log",
        environment=os.environ,
        folder=tmp_path,
        grace_s=1,
    )
    family = pids(file, 3)
    child.check()
    child.release()
    child.wait()
    assert_gone(family)


def test_an_owner_that_is_killed_takes_the_family_along(tmp_path: Path) -> None:
    file = tmp_path / "pids"
    owner = subprocess.Popen(
        [sys.executable, "-c", code(OWNER), str(tmp_path / "log"), code(FAMILY), str(file), code(STUBBORN)],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2] / "platform")},
    )
    family = pids(file, 3)
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    assert_gone(family)


def test_a_child_that_ends_is_named_with_its_log_tail(tmp_path: Path) -> None:
    script = "import sys; sys.exit('out of cheese')"
    child = SupervisedProcess(
        "cheese shop",
        [sys.executable, "-c", script],
        log=tmp_path / "shop.log",
        environment=os.environ,
        folder=tmp_path,
    )

    def ended() -> str:
        try:
            child.check()
        except PlatformError as error:
            return str(error)
        return ""

    said = wait_until(ended, what="the child has ended")
    assert "the cheese shop ended (exit code 1)" in said
    assert "out of cheese" in said
    assert str(tmp_path / "shop.log") in said
    with pytest.raises(PlatformError):
        child.check()
