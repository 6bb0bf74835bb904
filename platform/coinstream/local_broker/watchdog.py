"""Runs one Java and sees to it that it never outlives its owner. Started as a script, standard library only.

The owner holds the other end of standard input. When that closes, because the owner closed it or
because the owner died, however it died, Java is stopped. Should this very process be killed, Linux
kills Java at once (PR_SET_PDEATHSIG).

Usage: `python -I -S watchdog.py GRACE_SECONDS COMMAND...`; prints the process id of the command.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import sys

_POLL_S = 0.1
_PR_SET_PDEATHSIG = 1


def _die_with_parent() -> None:
    # This process has one thread, so the signal comes with the death of the process, not of some thread.
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _owner_is_gone(owner: int) -> bool:
    # A fork of the owner may hold the pipe open after the owner's death; the parent's id tells then.
    readable, _, _ = select.select([sys.stdin], [], [], _POLL_S)
    return bool(readable) or os.getppid() != owner


def _stop(child: subprocess.Popen[bytes], grace_s: float) -> int:
    child.terminate()
    # A paused process would not see the signal.
    child.send_signal(signal.SIGCONT)
    try:
        return child.wait(grace_s)
    except subprocess.TimeoutExpired:
        child.kill()
        return child.wait()


def main(grace_s: float, command: list[str]) -> int:
    """Run `command` until it ends or the owner is gone. Returns its exit code, negative for a signal."""
    owner = os.getppid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # A handler, not SIG_IGN: Java would inherit that, and could no longer be stopped.
        signal.signal(number, lambda *_: None)
    child = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=sys.stderr, preexec_fn=_die_with_parent
    )
    print(child.pid, flush=True)
    while child.poll() is None:
        if _owner_is_gone(owner):
            return _stop(child, grace_s)
    return child.returncode


if __name__ == "__main__":
    code = main(float(sys.argv[1]), sys.argv[2:])
    sys.exit(code if code >= 0 else 128 - code)
