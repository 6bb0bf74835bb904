"""Landing on a Ray cluster of two nodes: exact under failures."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from coinstream.expectations.validator import ExpectationValidator
from coinstream.lake.landed_offsets import read_landed_offsets
from coinstream.lake.landing import TableReport, land
from coinstream.lake.open_engine import open_engine
from coinstream.lake.schemas import spec_named
from coinstream.lake.store import Lake
from coinstream.settings import BrokerSettings
from tests.conftest import TopicFactory
from tests.lake.conftest import lake_at
from tests.lake.support import level1, places, send

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("ray"), pytest.mark.timeout(600)]

SPEC = spec_named("level1")
COUNT = 30_000

DRIVER = """
import sys
from pathlib import Path
from coinstream.expectations.validator import ExpectationValidator
from coinstream.lake.landing import land
from coinstream.lake.open_engine import open_engine
from coinstream.lake.schemas import spec_named
from coinstream.settings import BrokerSettings
from tests.lake.conftest import lake_at
bootstrap, topic, home = sys.argv[1:]
lake, brokers = lake_at(Path(home), engine="ray", slice_rows=2_000), BrokerSettings(brokers=bootstrap)
with open_engine(lake.settings, brokers, ExpectationValidator) as engine:
    print("ready", flush=True)
    land(lake, brokers, spec_named("level1"), topic=topic, engine=engine,
         on_progress=lambda _: print("landed", flush=True))
print("done", flush=True)
"""


def fill(brokers: BrokerSettings, name: str) -> None:
    # A symbol is in one partition only: `send` takes one of seven keys.
    symbols = [f"C{key}/USDT" for key in range(7)]
    quotes = (level1(i, symbol=symbols[(i + 1) % 7]) for i in range(COUNT))
    send(brokers.brokers, name, (q if i % 999 else {**q, "bestBid": 70_000} for i, q in enumerate(quotes)))


def land_on_ray(lake: Lake, brokers: BrokerSettings, name: str, **options: Any) -> TableReport:
    with open_engine(lake.settings, brokers, ExpectationValidator) as engine:
        return land(lake, brokers, SPEC, topic=name, engine=engine, **options)


def is_exact(lake: Lake) -> None:
    landed, refused = places(lake, "level1"), places(lake, "quarantine")
    assert set(landed.values()) | set(refused.values()) == {1}
    assert len(landed) + len(refused) == COUNT
    assert not set(landed) & set(refused)


@pytest.mark.usefixtures("ray_cluster")
def test_ray_lands_what_one_process_lands(
    broker_settings: BrokerSettings, topic: TopicFactory, tmp_path: Path
) -> None:
    name = topic("level1", partitions=4)
    fill(broker_settings, name)
    plain = lake_at(tmp_path / "plain")
    spread = lake_at(tmp_path / "ray", engine="ray", slice_rows=2_000)
    expected = land(plain, broker_settings, SPEC, ExpectationValidator(SPEC), topic=name)
    report = land_on_ray(spread, broker_settings, name)
    assert report.slices > 4
    assert (report.messages, report.rows, report.refused) == (
        expected.messages,
        expected.rows,
        expected.refused,
    )
    for table in ("level1", "quarantine", "flagged"):
        assert places(spread, table) == places(plain, table)
    assert read_landed_offsets(spread.table(SPEC)) == read_landed_offsets(plain.table(SPEC))
    is_exact(spread)


@pytest.mark.usefixtures("ray_cluster")
def test_killed_workers_lose_and_double_nothing(
    broker_settings: BrokerSettings, topic: TopicFactory, tmp_path: Path
) -> None:
    name = topic("level1", partitions=4)
    fill(broker_settings, name)
    lake = lake_at(tmp_path, engine="ray", slice_rows=2_000)
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    dice, stop, killed = random.Random(seed), threading.Event(), list[int]()

    def kill_workers() -> None:
        while not stop.is_set() and len(killed) < 3:
            busy = [
                process
                for process in psutil.Process().parent().children(recursive=True)  # type: ignore[union-attr]
                if "ray::prepare_slice" in " ".join(process.cmdline()[:1])
            ]
            if busy:
                chosen = dice.choice(busy)
                chosen.send_signal(signal.SIGKILL)
                killed.append(chosen.pid)
                stop.wait(dice.uniform(0.05, 0.5))
            stop.wait(0.01)

    killer = threading.Thread(target=kill_workers)
    killer.start()
    try:
        land_on_ray(lake, broker_settings, name)
    finally:
        stop.set()
        killer.join()
    assert killed
    is_exact(lake)


def test_a_killed_driver_is_completed_by_one_process(
    ray_cluster: Any, broker_settings: BrokerSettings, topic: TopicFactory, tmp_path: Path
) -> None:
    name = topic("level1", partitions=4)
    fill(broker_settings, name)
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, broker_settings.brokers, name, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": ":".join(sys.path), "RAY_ADDRESS": ray_cluster.address},
    )
    assert driver.stdout is not None
    assert driver.stdout.readline() == "ready\n"
    driver.stdout.readline()
    driver.kill()
    driver.communicate()
    lake = lake_at(tmp_path)
    land(lake, broker_settings, SPEC, ExpectationValidator(SPEC), topic=name)
    is_exact(lake)


@pytest.mark.usefixtures("ray_cluster")
def test_ray_and_one_process_may_race(
    broker_settings: BrokerSettings, topic: TopicFactory, tmp_path: Path
) -> None:
    name = topic("level1", partitions=4)
    fill(broker_settings, name)
    lake, other = lake_at(tmp_path, engine="ray", slice_rows=2_000), lake_at(tmp_path)
    lake.table(SPEC)
    racer = threading.Thread(
        target=land, args=(other, broker_settings, SPEC, ExpectationValidator(SPEC)), kwargs={"topic": name}
    )
    racer.start()
    started = time.monotonic()
    land_on_ray(lake, broker_settings, name)
    racer.join()
    assert time.monotonic() > started
    is_exact(lake)
