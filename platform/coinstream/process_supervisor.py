"""Run a command, and end it with all its descendants when the owner is gone.

The owner holds this process's standard input. When that pipe closes, because the owner closed it or
because it died, the descendants are asked to end, then the command, then those that remain are killed. On
Linux orphaned descendants come to this process, so none escapes it. Should this process be killed, Linux
kills the command (PR_SET_PDEATHSIG).

Usage: `python -I process_supervisor.py [--report-pid] GRACE_SECONDS COMMAND...`; exits with the code of the
command. With `--report-pid`, standard output holds the process id of the command alone, and the output of the
command goes to standard error.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import sys
import time

import psutil

_POLL_S = 0.1
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def _adopt_orphans() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)


def _die_with_parent() -> None:
    # Should this very process be killed, the command goes with it.
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _owner_is_gone(owner: int) -> bool:
    # A fork of the owner may hold the pipe open after the owner's death; the parent's id tells then.
    readable, _, _ = select.select([sys.stdin], [], [], _POLL_S)
    return bool(readable) or os.getppid() != owner


def _descendants() -> list[psutil.Process]:
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


def _ends_with_its_parent(process: psutil.Process) -> bool:
    # Python's own helper ignores signals, and ends when the process that it helps is gone.
    try:
        return any("multiprocessing.resource_tracker" in word for word in process.cmdline())
    except psutil.NoSuchProcess:
        return True


def _ask_to_end(processes: list[psutil.Process]) -> None:
    for process in processes:
        try:
            process.terminate()
            # A paused process would not see the signal.
            process.resume()
        except psutil.NoSuchProcess:
            continue


def _stop(command: subprocess.Popen[bytes], grace_s: float) -> int:
    deadline = time.monotonic() + grace_s
    # Runs first: while they end in order, the server that started them must not end and take them along.
    others = [p for p in _descendants() if p.pid != command.pid and not _ends_with_its_parent(p)]
    _ask_to_end(others)
    psutil.wait_procs(others, timeout=grace_s)
    command.terminate()
    command.send_signal(signal.SIGCONT)
    try:
        code = command.wait(max(deadline - time.monotonic(), grace_s / 4))
    except subprocess.TimeoutExpired:
        command.kill()
        code = command.wait()
    _sweep()
    return code


def _sweep() -> None:
    """Kill what is left, until nothing is: a dying process may have started another."""
    while left := _descendants():
        for process in left:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(left, timeout=1)


def main(grace_s: float, command: list[str], *, report_pid: bool = False) -> int:
    """Run `command` until it ends or the owner is gone. Returns its exit code, negative for a signal."""
    owner = os.getppid()
    _adopt_orphans()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # A handler, not SIG_IGN: the command would inherit that, and could no longer be stopped.
        signal.signal(number, lambda *_: None)
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr if report_pid else None,
        preexec_fn=_die_with_parent,
    )
    if report_pid:
        print(child.pid, flush=True)
    while child.poll() is None:
        if _owner_is_gone(owner):
            return _stop(child, grace_s)
    _sweep()
    return child.returncode


if __name__ == "__main__":
    arguments = sys.argv[1:]
    report = arguments[0] == "--report-pid"
    arguments = arguments[1:] if report else arguments
    code = main(float(arguments[0]), arguments[1:], report_pid=report)
    sys.exit(code if code >= 0 else 128 - code)
