"""Start and stop a detached local broker, and run the process that owns it.

Usage of the owner: `python -m coinstream.local_broker.daemon HOME NODES PORT`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Final, Literal, cast

import psutil

from coinstream.errors import LocalBrokerError
from coinstream.files import private_folder
from coinstream.local_broker import jars
from coinstream.local_broker.broker import LocalBroker
from coinstream.local_broker.jars import show_fetching
from coinstream.local_broker.status import RunningBroker, clear_stale, read_running, running_broker

_ERROR: Final = "error: "
_POLL_S: Final = 0.1
_WATCH_S: Final = 0.5
_STOP_S: Final = 40.0
"""Timeout of a stop, longer than the nodes' own timeouts, in seconds."""


def owner_log(home: Path) -> Path:
    """Return the log of a detached broker's owner, separate from the logs of the nodes."""
    return home / "owner.log"


def start_detached(
    home: Path, nodes: Literal[1, 3] = 1, port: int = 0, progress: jars.Progress = show_fetching
) -> RunningBroker:
    """Start a detached broker and wait until it is ready.

    Raises:
        LocalBrokerError: it cannot be started, or another local broker uses this home.
    """
    # Download the jars in this process, which shows the progress.
    jars.classpath(progress=progress)
    _make_folder(home)
    command = [sys.executable, "-m", __name__, str(home), str(nodes), str(port)]
    with owner_log(home).open("wb") as log:
        owner = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    try:
        return _await_ready(owner, home)
    except BaseException:
        owner.terminate()
        owner.wait()
        raise


def stop_detached(home: Path) -> bool:
    """Stop the detached broker of this home and wait until it has exited; return False if none is running.

    Raises:
        LocalBrokerError: it belongs to another process, or does not stop.
    """
    running = running_broker(home)
    if running is None:
        # A killed owner may leave its state file, and nodes that are still stopping.
        clear_stale(home, _STOP_S)
        return False
    if not running.detached:
        raise LocalBrokerError(
            f"the local broker of {home} belongs to process {running.owner.pid} ({_command(running)}): "
            "end that one, and the broker stops with it"
        )
    owner = running.owner.find()
    if owner is not None:
        owner.terminate()
        _, left = psutil.wait_procs([owner], timeout=_STOP_S)
        if left:
            raise LocalBrokerError(
                f"process {owner.pid}, the owner of the local broker, does not stop; "
                f"its log is {owner_log(home)}"
            )
    return True


def _make_folder(home: Path) -> None:
    try:
        private_folder(home)
    except OSError as error:
        raise LocalBrokerError(
            f"cannot write the folder of the local broker, {home}: {error.strerror or error}; "
            "give this user the right to write, or set COINSTREAM_HOME to another folder"
        ) from error


def _await_ready(owner: subprocess.Popen[bytes], home: Path) -> RunningBroker:
    # No deadline here, because the owner has one and reports what it waited for.
    while owner.poll() is None:
        running = read_running(home)
        if running is not None and running.owner.pid == owner.pid and running.ready:
            return running
        time.sleep(_POLL_S)
    raise LocalBrokerError(_last_words(home, owner.returncode))


def _last_words(home: Path, code: int) -> str:
    log = owner_log(home)
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    errors = [line.removeprefix(_ERROR) for line in lines if line.startswith(_ERROR)]
    return errors[-1] if errors else f"the owner of the local broker ended (exit code {code}): see {log}"


def _command(running: RunningBroker) -> str:
    process = running.owner.find()
    try:
        return " ".join(process.cmdline()[:6]) if process is not None else "ended meanwhile"
    except psutil.Error:
        return "of another user"


def _own(home: Path, nodes: Literal[1, 3], port: int) -> int:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)
    os.chdir(home)
    broker = LocalBroker(home, nodes, port, detached=True)
    try:
        broker.start()
        return _watch(broker)
    except LocalBrokerError as error:
        _say(error)
        return 1
    finally:
        # A second signal must not interrupt the stop.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        broker.stop()


def _watch(broker: LocalBroker) -> int:
    reported: set[int] = set()
    while not all(node.died for node in broker.nodes):
        for node in broker.nodes:
            if node.died and node.node_id not in reported:
                reported.add(node.node_id)
                _say(node.exit_reason())
        time.sleep(_WATCH_S)
    _say(broker.nodes[0].exit_reason())
    return 1


def _leave(_number: int, _frame: object) -> None:
    sys.exit(0)


def _say(text: object) -> None:
    print(f"{_ERROR}{text}", flush=True)


if __name__ == "__main__":
    _home, _nodes, _port = sys.argv[1:]
    sys.exit(_own(Path(_home), cast(Literal[1, 3], int(_nodes)), int(_port)))
