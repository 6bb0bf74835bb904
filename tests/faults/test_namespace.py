"""Delay and loss of packets, made by the kernel where this machine permits it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.system

WEATHER = "ip link set lo up && tc qdisc add dev lo root netem delay 10ms 5ms loss 1%"


def in_namespace(command: str) -> list[str]:
    user = [] if os.geteuid() == 0 else ["--map-root-user"]
    return ["unshare", *user, "--net", "sh", "-c", command]


@pytest.mark.timeout(1200)
def test_lost_and_late_packets(tmp_path: Path) -> None:
    missing = [program for program in ("unshare", "ip", "tc") if shutil.which(program) is None]
    if missing:
        pytest.skip(f"no {', '.join(missing)} here: packets are lost by the proxy of test_brokers alone")
    permitted = subprocess.run(in_namespace(WEATHER), capture_output=True, text=True, timeout=30, check=False)
    if permitted.returncode != 0:
        pytest.skip(f"this machine permits no netem in a namespace: {permitted.stderr.strip()[-100:]}")
    work = f'{WEATHER} && exec "{sys.executable}" -m tests.faults.in_namespace "{tmp_path / "home"}"'
    done = subprocess.run(
        in_namespace(work),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=360,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
