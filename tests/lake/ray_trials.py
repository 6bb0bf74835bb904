"""Kill workers, nodes and drivers of landings on Ray: `python -m tests.lake.ray_trials KIND SEEDS`.

Each trial fills a topic, lands it while something is killed with SIGKILL, lets a landing complete it, and
looks at every row. The seed decides what is killed, and when.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import psutil
import pytest

from coinstream.lake.engines import open_engine
from coinstream.lake.landing import TableReport, land
from coinstream.lake.schemas import TableSpec, spec_named
from coinstream.lake.store import Lake
from coinstream.lake.validation import NoValidation
from coinstream.local_broker import LocalBroker
from coinstream.settings import BrokerSettings, LakeSettings
from tests.conftest import TopicFactory, topic_factory
from tests.lake.conftest import lake_at
from tests.lake.support import level1, places, send

T = TypeVar("T")

SPEC: Final = spec_named("level1")
COUNT: Final = 4_000
SLICE_ROWS: Final = 250
START_ATTEMPTS: Final = 4
KINDS: Final = ("worker", "node", "driver")
FAST_DETECTION: Final = {"health_check_period_ms": 500}
"""Settings of Ray's control service, so that a dead node is noticed within seconds."""

DRIVER: Final = """
import sys
from pathlib import Path
from coinstream.lake.landing import land
from coinstream.lake.engines import open_engine
from coinstream.settings import BrokerSettings
from tests.lake.conftest import lake_at
from tests.lake.ray_trials import SLICE_ROWS, SPEC, no_validation
bootstrap, topic, home = sys.argv[1:]
lake, brokers = lake_at(Path(home), engine="ray", slice_rows=SLICE_ROWS), BrokerSettings(brokers=bootstrap)
with open_engine(lake.settings, brokers, no_validation) as engine:
    print("ready", flush=True)
    land(lake, brokers, SPEC, topic=topic, engine=engine, on_progress=lambda _: print("landed", flush=True))
"""


@dataclass(frozen=True)
class Trial:
    """What a trial did."""

    kind: str
    seed: int
    killed: int
    restarts: int
    seconds: float


def no_validation(spec: TableSpec, settings: LakeSettings) -> NoValidation:
    """Make a validator that workers load at once: its kind has no part in what a death does."""
    return NoValidation()


@contextmanager
def two_nodes() -> Iterator[Any]:
    """Start two nodes with a worker each, and connect this process to them."""
    import ray

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        # By default workers run at a low priority, and starve on a machine that runs other tests.
        patch.setenv("RAY_worker_niceness", "0")
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        # Another test of this process may have connected it to a cluster of its own.
        ray.shutdown()
        nodes = started(_start_head)
        try:
            started(lambda: nodes.add_node(num_cpus=1))
            ray.init(address=nodes.address, log_to_driver=False)
            yield nodes
        finally:
            ray.shutdown()
            nodes.shutdown()


def started(start: Callable[[], T]) -> T:
    """Start a node, again where it is not there within half a minute, as on a machine with other tests."""
    for _ in range(START_ATTEMPTS - 1):
        before = set(_node_processes())
        try:
            return start()
        except Exception as error:  # noqa: BLE001 - Ray raises nothing more special
            print(f"a node of Ray did not start: {error}")
            for process in set(_node_processes()) - before:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
    return start()


def _start_head() -> Any:
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 1, "include_dashboard": False, "_system_config": FAST_DETECTION}
    return Cluster(initialize_head=True, head_node_args=head)


def _node_processes() -> list[psutil.Process]:
    """Return the processes that Ray has started for nodes of this process."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if process.name() in {"raylet", "gcs_server"} or "/ray/" in " ".join(process.cmdline()[:4]):
                found.append(process)
    return found


def busy_workers() -> list[psutil.Process]:
    """Return the processes that prepare a slice at this moment."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.name().startswith("ray::prepare") and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def fill(brokers: BrokerSettings, name: str, count: int = COUNT) -> None:
    """Send quotes, of which every 97th cannot be read."""
    payloads = (level1(number) if number % 97 else b"broken" for number in range(count))
    send(brokers.brokers, name, payloads)


def is_exact(lake: Lake, count: int = COUNT) -> None:
    """Make sure that every message is in the table or in the quarantine, once."""
    landed, refused = places(lake, "level1"), places(lake, "quarantine")
    assert set(landed.values()) | set(refused.values()) == {1}
    assert len(landed) + len(refused) == count
    assert len(refused) == -(-count // 97)
    assert not set(landed) & set(refused)


def run_trial(kind: str, seed: int, nodes: Any, brokers: BrokerSettings, name: str, home: Path) -> Trial:
    """Run a trial on a topic that `fill` has filled.

    Raises:
        AssertionError: a row is missing or there twice, or nothing was killed.
    """
    dice, begun = random.Random(seed), time.monotonic()
    killed, restarts = 1, 0
    if kind == "driver":
        _kill_driver(dice, nodes, brokers, name, home)
        engine = dice.choice(["embedded", "ray"])
        _land(lake_at(home, engine=engine, slice_rows=SLICE_ROWS), brokers, name)
    else:
        wanted = dice.randint(1, 2) if kind == "worker" else 1
        kill = _kill_worker if kind == "worker" else _node_killer(nodes)
        with _killing(dice, kill, wanted) as done:
            restarts = _land(lake_at(home, engine="ray", slice_rows=SLICE_ROWS), brokers, name).restarts
        killed = len(done)
        if kind == "node":
            nodes.remove_node(next(iter(nodes.worker_nodes)), allow_graceful=False)
            started(lambda: nodes.add_node(num_cpus=1))
    assert killed
    is_exact(lake_at(home))
    return Trial(kind, seed, killed, restarts, time.monotonic() - begun)


def _land(lake: Lake, brokers: BrokerSettings, name: str) -> TableReport:
    with open_engine(lake.settings, brokers, no_validation) as engine:
        return land(lake, brokers, SPEC, topic=name, engine=engine)


@contextmanager
def _killing(
    dice: random.Random, kill: Callable[[random.Random], bool], wanted: int
) -> Iterator[list[float]]:
    """Kill during the block, after a random time in which something is busy."""
    stop, killed = threading.Event(), list[float]()

    def work() -> None:
        while len(killed) < wanted and not stop.is_set():
            if busy_workers():
                stop.wait(dice.uniform(0, 0.15))
                if kill(dice):
                    killed.append(time.monotonic())
            stop.wait(0.005)

    killer = threading.Thread(target=work)
    killer.start()
    try:
        yield killed
    finally:
        stop.set()
        killer.join()


def _kill_worker(dice: random.Random) -> bool:
    busy = busy_workers()
    if not busy:
        return False
    with suppress(psutil.NoSuchProcess):
        dice.choice(busy).send_signal(signal.SIGKILL)
        return True
    return False


def _node_killer(nodes: Any) -> Callable[[random.Random], bool]:
    (node,) = nodes.worker_nodes
    raylet = node.all_processes["raylet"][0].process

    def kill(_: random.Random) -> bool:
        os.kill(raylet.pid, signal.SIGKILL)
        return True

    return kill


def _kill_driver(dice: random.Random, nodes: Any, brokers: BrokerSettings, name: str, home: Path) -> None:
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, brokers.brokers, name, str(home)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "RAY_ADDRESS": nodes.address},
    )
    assert driver.stdout is not None
    assert driver.stdout.readline() == "ready\n"
    for _ in range(dice.randint(0, 3)):
        driver.stdout.readline()
    time.sleep(dice.uniform(0, 0.2))  # kills at any point, not just after a commit
    driver.kill()
    driver.communicate()


def main(kind: str, seeds: int) -> None:
    """Run trials with a broker and a cluster of their own, and print a line for each."""
    with (
        tempfile.TemporaryDirectory(prefix="coinstream-ray-") as folder,
        LocalBroker(Path(folder) / "broker", nodes=1, port=0) as broker,
        two_nodes() as nodes,
    ):
        make_topic: TopicFactory = topic_factory(broker.bootstrap, [])
        brokers = BrokerSettings(brokers=broker.bootstrap)
        for seed in range(seeds):
            name = make_topic("level1", partitions=4)
            fill(brokers, name)
            print(run_trial(kind, seed, nodes, brokers, name, Path(folder) / str(seed)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
