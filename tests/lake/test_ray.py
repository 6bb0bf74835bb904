"""Landing and candles on a Ray cluster of two nodes: the same as in one process, and exact under failures."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from assets.lake import HOURS, TABLES, table_key
from coinstream.errors import CoinstreamError
from coinstream.expectations.validator import ExpectationValidator
from coinstream.lake.candles import build_candles
from coinstream.lake.engines import open_engine
from coinstream.lake.landed_offsets import read_landed_offsets
from coinstream.lake.landing import TableReport, land
from coinstream.lake.maintenance import compact
from coinstream.lake.statistics import exchange_statistics
from coinstream.lake.store import Lake
from coinstream.local_broker import LocalBroker
from coinstream.settings import BrokerSettings
from resources.admin import AdminResource
from resources.lake import LakeResource
from scripts.ray_figures import costs
from tests.conftest import TopicFactory
from tests.lake.conftest import lake_at
from tests.lake.ray_trials import COUNT, KINDS, SPEC, busy_workers, fill, is_exact, no_validation, run_trial
from tests.lake.support import iso, level1, places, rows, send
from tests.support import wait_until

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("ray"), pytest.mark.timeout(900)]

SEEDS = 20


def land_on_ray(lake: Lake, brokers: BrokerSettings, name: str, **options: Any) -> TableReport:
    with open_engine(lake.settings, brokers, ExpectationValidator) as engine:
        return land(lake, brokers, SPEC, topic=name, engine=engine, **options)


@pytest.mark.usefixtures("ray_cluster")
def test_ray_lands_what_one_process_lands(
    broker_settings: BrokerSettings, topic: TopicFactory, tmp_path: Path
) -> None:
    name = topic("level1", partitions=4)
    # A symbol is in one partition only: `send` takes one of seven keys.
    symbols = [f"C{key}/USDT" for key in range(7)]
    quotes = [level1(i, symbol=symbols[(i + 1) % 7]) for i in range(6_000)]
    for i in range(0, len(quotes), 499):
        quotes[i]["bestBid"] = 70_000  # refused
    for i in range(1_003, len(quotes), 1_201):
        quotes[i]["timestamp"] = quotes[i - 1_001]["timestamp"]  # flagged
    send(broker_settings.brokers, name, [*quotes, b"broken", None])
    plain = lake_at(tmp_path / "plain")
    spread = lake_at(tmp_path / "ray", engine="ray", slice_rows=500)
    expected = land(plain, broker_settings, SPEC, ExpectationValidator(SPEC), topic=name)
    report = land_on_ray(spread, broker_settings, name)

    assert expected.refused > 10
    assert expected.flagged > 2
    assert report.slices > 8
    assert len(report.workers) == 2
    kept = ("messages", "rows", "refused", "flagged", "extra", "lost", "planned")
    assert {key: getattr(report, key) for key in kept} == {key: getattr(expected, key) for key in kept}
    for table in ("level1", "quarantine", "flagged"):
        assert [_same(row) for row in rows(spread, table)] == [_same(row) for row in rows(plain, table)]
    assert read_landed_offsets(spread.table(SPEC)) == read_landed_offsets(plain.table(SPEC))
    found, wanted = (
        {check.name: (check.checked, check.failed) for check in each.checks} for each in (report, expected)
    )
    assert found == wanted


def _same(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in {"ingested_at", "refused_at", "run"}}


@pytest.mark.timeout(1200)
def test_twenty_killed_workers_nodes_and_drivers_lose_and_double_nothing(
    ray_cluster: Any, broker_settings: BrokerSettings, topic: TopicFactory, tmp_path: Path
) -> None:
    restarts = 0
    for seed in range(SEEDS):
        name, kind = topic("level1", partitions=4), KINDS[seed % len(KINDS)]
        fill(broker_settings, name)
        trial = run_trial(kind, seed, ray_cluster, broker_settings, name, tmp_path / str(seed))
        print(trial)
        restarts += trial.restarts
    assert restarts > 0


@pytest.mark.usefixtures("ray_cluster")
def test_ray_one_process_and_compaction_may_race(
    broker_settings: BrokerSettings, topic: TopicFactory, tmp_path: Path
) -> None:
    name = topic("level1", partitions=4)
    fill(broker_settings, name)
    lake, other = lake_at(tmp_path, engine="ray", slice_rows=250), lake_at(tmp_path, batch_rows=500)
    lake.table(SPEC)
    done = threading.Event()
    landed: list[TableReport] = []

    def race() -> None:
        landed.append(land(other, broker_settings, SPEC, topic=name))

    def compacting() -> None:
        while not done.is_set():
            compact(lake_at(tmp_path), "level1")

    racers = [threading.Thread(target=race), threading.Thread(target=compacting)]
    for racer in racers:
        racer.start()
    try:
        with open_engine(lake.settings, broker_settings, no_validation) as engine:
            landed.append(land(lake, broker_settings, SPEC, topic=name, engine=engine))
    finally:
        done.set()
        for racer in racers:
            racer.join()
    is_exact(lake)
    assert sum(report.rows + report.refused for report in landed) == COUNT


@pytest.mark.usefixtures("ray_cluster")
def test_a_stopped_landing_cancels_its_tasks_and_the_next_one_completes_it(
    broker_settings: BrokerSettings, topic: TopicFactory, tmp_path: Path
) -> None:
    name = topic("level1", partitions=4)
    fill(broker_settings, name)
    lake, stop = lake_at(tmp_path, engine="ray", slice_rows=250), threading.Event()
    with open_engine(lake.settings, broker_settings, no_validation) as engine:
        report = land(
            lake,
            broker_settings,
            SPEC,
            topic=name,
            engine=engine,
            on_progress=lambda _: stop.set(),
            stop=stop,
        )
        assert report.messages < COUNT
        wait_until(lambda: not busy_workers(), 60, what="no task is left")
        land(lake, broker_settings, SPEC, topic=name, engine=engine)
    is_exact(lake)


@pytest.mark.usefixtures("ray_cluster")
def test_candles_and_statistics_are_the_same_on_ray(
    broker_settings: BrokerSettings, topic: TopicFactory, tmp_path: Path
) -> None:
    name = topic("level1", partitions=4)
    start = datetime(2026, 1, 5, 22, tzinfo=UTC)
    times = [start + timedelta(seconds=5 * i) for i in range(3_000)]  # over midnight
    send(
        broker_settings.brokers,
        name,
        (
            level1(
                exchangeId=exchange,
                bestBid=60_000.5 + i,
                bestAsk=60_001.5 + i,
                timestamp=iso(at),
                lastUpdated=iso(at),
            )
            for i, at in enumerate(times)
            for exchange in ("binance", "kraken")
        ),
    )
    plain, spread = lake_at(tmp_path / "plain"), lake_at(tmp_path / "ray", engine="ray")
    for lake in (plain, spread):
        land(lake, broker_settings, SPEC, topic=name)
    expected = build_candles(plain)
    with open_engine(spread.settings, broker_settings, no_validation) as engine:
        report = build_candles(spread, engine=engine)
        found = exchange_statistics(spread, engine=engine)
    assert asdict(report) == asdict(expected)
    frames = [_sorted_candles(lake) for lake in (spread, plain)]
    assert frames[0].num_rows == 2 * (250 + 50 + 5)  # 250 minutes of two exchanges
    assert frames[0].equals(frames[1])
    wanted = exchange_statistics(plain)
    assert [one.exchange for one in found] == ["binance", "kraken"]
    for one, other in zip(found, wanted, strict=True):
        same = ("exchange", "quotes", "spread_bp_p50", "spread_bp_p99", "receipt_ms_p50", "receipt_ms_p99")
        assert [getattr(one, each) for each in same] == [getattr(other, each) for each in same]


def _sorted_candles(lake: Lake) -> pa.Table:
    table = lake.find("candles")
    assert table is not None
    key = ("exchange_id", "symbol", "timeframe", "open_time")
    return table.scan().to_arrow().sort_by([(name, "ascending") for name in key])


@pytest.mark.usefixtures("ray_cluster")
def test_the_bench_reports_the_cost_of_rows_slices_and_commits(
    broker_settings: BrokerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDPANDA_BROKERS", broker_settings.brokers)
    run = import_module("benchmarks.land").run
    found = run(messages=1_000, repetitions=1, partitions=2, engine="ray", workers=2, many_slices=6)
    assert found["many_slices"] > found["slices"] >= 2
    assert found["commit_ms"].keys() == {"100", "1000"}
    for name in ("cpu_us_per_row", "embedded_cpu_us_per_row", "many_slices_cpu_ratio", "ratio", "startup_s"):
        assert found[name] >= 0
    assert costs(found)
    with pytest.raises(CoinstreamError, match="no engine 'spark'"):
        run(engine="spark")


ASSET = """
import dagster as dg
from dagster._utils.interrupts import setup_interrupt_handlers
from assets.lake import HOURS, TABLES, table_key
from coinstream.errors import CoinstreamError
from resources.admin import AdminResource
from resources.lake import LakeResource
from scripts.ray_figures import costs
setup_interrupt_handlers()
dg.materialize(
    [next(table for table in TABLES if table.key == table_key("level1"))],
    resources={"admin": AdminResource(), "lake": LakeResource()},
    partition_key=HOURS.get_last_partition_key(),
    instance=dg.DagsterInstance.get(),
)
"""


@pytest.fixture
def own_broker(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[BrokerSettings]:
    """Yield a broker whose topics are empty: an asset lands topics by their own names."""
    with LocalBroker(tmp_path / "broker", nodes=1, port=0) as local:
        monkeypatch.setenv("REDPANDA_BROKERS", local.bootstrap)
        monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))
        (tmp_path / "dagster").mkdir()
        yield BrokerSettings(brokers=local.bootstrap)


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_ends_stops_its_tasks_and_the_next_run_completes_it(
    ray_cluster: Any,
    own_broker: BrokerSettings,
    home: Path,
    sent: signal.Signals,
) -> None:
    admin = AdminClient({"bootstrap.servers": own_broker.brokers})
    admin.create_topics([NewTopic("crypto-level1", 4, 1)])["crypto-level1"].result(30)
    fill(own_broker, "crypto-level1", 8_000)
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "RAY_ADDRESS": ray_cluster.address,
        "COINSTREAM_LAKE_ENGINE": "ray",
        "COINSTREAM_LAKE_SLICE_ROWS": "200",
    }
    driver = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", ASSET],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    )
    lake = lake_at(home)
    try:
        wait_until(lambda: places(lake, "level1") or driver.poll() is not None, 240, what="the first commit")
        assert driver.poll() is None, driver.communicate()[0]
        driver.send_signal(sent)
        said, _ = driver.communicate(timeout=90)
    finally:
        driver.kill()
    print(said[-4_000:])
    assert driver.returncode != 0
    wait_until(lambda: not busy_workers(), 60, what="no task is left")
    assert len(places(lake, "level1")) < 7_900
    next_run = dg.materialize(
        [next(table for table in TABLES if table.key == table_key("level1"))],
        resources={"admin": AdminResource(), "lake": LakeResource(engine="embedded")},
        partition_key=HOURS.get_last_partition_key(),
        instance=dg.DagsterInstance.ephemeral(),
    )
    assert next_run.success
    is_exact(lake, 8_000)
