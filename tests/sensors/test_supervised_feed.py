"""A supervised feed by Dagster's own daemon: runs hand over without a gap, a killed one is started again."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import psutil
import pytest

from coinstream.feeds.simulated import SimulatedExchange
from coinstream.settings import BrokerSettings
from sensors.feeds import SUPERVISED
from tests.feeds.test_lease import SYMBOLS, Reader, brokers, exchange, reader
from tests.sensors.daemon import ROOT, daemon
from tests.support import wait_until

pytestmark = pytest.mark.system

__all__ = ["brokers", "exchange", "reader"]

FEED = "handover"
RUN_S = 60
"""Its half, the handover, is longer than a run takes to start on a busy machine."""
PATIENCE_S = 180.0


@pytest.fixture
def supervised(
    tmp_path: Path, brokers: BrokerSettings, exchange: SimulatedExchange
) -> Iterator[dg.DagsterInstance]:
    """Yield the daemon with the platform's own settings of the instance."""
    config = tmp_path / "feeds.yaml"
    config.write_text(
        f"feeds:\n  {FEED}:\n    source: simulated\n    exchange: binance\n"
        f"    symbols: [{', '.join(SYMBOLS)}]\n    types: [level1]\n    url: {exchange.url}\n"
    )
    environment = {
        "COINSTREAM_HOME": str(tmp_path / "home"),
        "COINSTREAM_FEEDS": str(config),
        "COINSTREAM_WATCH_FEEDS": FEED,
        "COINSTREAM_WATCH_INTERVAL_S": "1",
        "COINSTREAM_WATCH_FEED_RUN_S": str(RUN_S),
        "COINSTREAM_WATCH_FEED_HANDOVER_S": str(RUN_S / 2),
        "COINSTREAM_WATCH_FEED_BACKOFF_S": "1",
        "REDPANDA_BROKERS": brokers.brokers,
    }
    settings = (ROOT / "dagster.yaml").read_text()
    with daemon(tmp_path / "dagster", "tests.sensors.feeds_location", environment, settings) as instance:
        yield instance


def runs(instance: dg.DagsterInstance, *statuses: dg.DagsterRunStatus) -> list[dg.DagsterRun]:
    """Return the feed's runs, oldest first."""
    wanted = dg.RunsFilter(tags={SUPERVISED: FEED}, statuses=statuses)
    return list(reversed(instance.get_runs(wanted)))


def process_of(instance: dg.DagsterInstance, run: dg.DagsterRun) -> psutil.Process:
    found = (re.search(r"\(pid: (\d+)\)", entry.message or "") for entry in instance.all_logs(run.run_id))
    return psutil.Process(int(next(match[1] for match in found if match)))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_handovers_without_a_gap_and_a_restart_after_a_kill(
    supervised: dg.DagsterInstance, reader: Reader
) -> None:
    def succeeded() -> bool:
        reader.read()
        failed = runs(supervised, dg.DagsterRunStatus.FAILURE)
        assert not failed, f"runs failed: {failed}"
        return len(runs(supervised, dg.DagsterRunStatus.SUCCESS)) >= 2

    wait_until(succeeded, 2 * RUN_S + PATIENCE_S, what="two runs have handed over and ended well")
    reader.read_more(200)
    (third,) = runs(supervised, dg.DagsterRunStatus.STARTED)
    assert set(reader.numbers) == set(SYMBOLS)
    for numbers in reader.numbers.values():
        assert numbers == list(range(numbers[0], numbers[-1] + 1)), "each once, in order, none missing"

    process_of(supervised, third).kill()
    wait_until(
        lambda: [one.run_id for one in runs(supervised, dg.DagsterRunStatus.FAILURE)] == [third.run_id],
        PATIENCE_S,
        what="the kill is noticed",
    )
    wait_until(
        lambda: runs(supervised, dg.DagsterRunStatus.STARTED), PATIENCE_S, what="the feed is started again"
    )
    reader.read_rest()
    reader.read_more(100)
