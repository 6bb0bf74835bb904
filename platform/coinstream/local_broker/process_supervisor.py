"""Run a command, and terminate it with all its descendants when the owner exits.

The owner keeps this process's standard input open. When that pipe closes because the owner closed it or
exited, this process sends SIGTERM to the descendants, then to the command, and kills the remaining ones. On
Linux this process is the subreaper of orphaned descendants, so none escapes. If this process is killed, Linux
kills the command (PR_SET_PDEATHSIG).

Usage: `python -I process_supervisor.py [--report-pid] GRACE_SECONDS COMMAND...`. The exit code is that of the
command. With `--report-pid`, standard output contains only the process id of the command, and the output of
the command goes to standard error.
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


def adopt_orphans() -> None:
    """Become the parent of orphaned descendants, on Linux."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)


def _die_with_parent() -> None:
    # Kill the command if this process is killed.
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _owner_is_gone(owner: int) -> bool:
    # A fork of the owner may hold the pipe open after the owner's death; the parent's process id then
    # changes.
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
    # Python's resource tracker ignores signals, and exits with the process that it serves.
    try:
        return any("multiprocessing.resource_tracker" in word for word in process.cmdline())
    except psutil.NoSuchProcess:
        return True


def _ask_to_end(processes: list[psutil.Process]) -> None:
    for process in processes:
        try:
            process.terminate()
            # A stopped process would not receive the signal.
            process.resume()
        except psutil.NoSuchProcess:
            continue


def _stop(command: subprocess.Popen[bytes], grace_s: float) -> int:
    deadline = time.monotonic() + grace_s
    # Terminate runs first: the server that started them must not exit and kill them while they shut down.
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
    kill_descendants()
    return code


def kill_descendants() -> None:
    """Kill descendants until none is left; an exiting process may have started another."""
    while left := _descendants():
        for process in left:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(left, timeout=1)


def main(grace_s: float, command: list[str], *, report_pid: bool = False) -> int:
    """Run `command` until it or the owner exits. Returns its exit code, negative for a signal."""
    owner = os.getppid()
    adopt_orphans()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # A handler, not SIG_IGN, which the command would inherit.
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
    kill_descendants()
    return child.returncode


if __name__ == "__main__":
    arguments = sys.argv[1:]
    report = arguments[0] == "--report-pid"
    arguments = arguments[1:] if report else arguments
    code = main(float(arguments[0]), arguments[1:], report_pid=report)
    sys.exit(code if code >= 0 else 128 - code)
