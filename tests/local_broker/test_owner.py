"""No Java outlives the process that owns it, however that ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.support import wait_until

pytestmark = pytest.mark.system

OWNER = """
import json, os, sys, time
from pathlib import Path
from coinstream.local_broker import LocalBroker

broker = LocalBroker(Path(sys.argv[1]), port=0)
broker.start()
# A child that holds every open file of the owner, the supervisor's pipe among them.
child = os.fork()
if child == 0:
    time.sleep(300)
    os._exit(0)
print(json.dumps({"java": broker.nodes[0].process.pid, "child": child}), flush=True)
time.sleep(300)
"""


@contextmanager
def owner(home: Path) -> Iterator[tuple[subprocess.Popen[bytes], psutil.Process]]:
    process = subprocess.Popen([sys.executable, "-c", OWNER, str(home)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    told = json.loads(process.stdout.readline())
    try:
        yield process, psutil.Process(told["java"])
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        os.kill(told["child"], signal.SIGKILL)


def test_java_goes_with_its_owner(tmp_path: Path) -> None:
    with owner(tmp_path) as (process, java):
        process.kill()
        process.wait()
        wait_until(lambda: not java.is_running(), what="Java is gone")


def test_java_goes_with_its_supervisor(tmp_path: Path) -> None:
    with owner(tmp_path) as (process, java):
        supervisor = java.parent()
        assert supervisor is not None
        assert supervisor.pid != process.pid
        supervisor.send_signal(signal.SIGKILL)
        wait_until(lambda: not java.is_running(), what="Java is gone")
