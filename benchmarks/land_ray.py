"""Topic -> Iceberg table on Ray: cost per row, slice, commit and start, beside the same bare loop."""

from __future__ import annotations

import copy
import os
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil

from benchmarks.common import compare, interleaved, machine
from coinstream.expectations.validator import ExpectationValidator
from coinstream.lake.commit import append_files
from coinstream.lake.engines import EmbeddedEngine, Engine, open_engine
from coinstream.lake.landing import TableReport, land
from coinstream.lake.schemas import spec_named
from coinstream.lake.store import Lake
from coinstream.settings import BrokerSettings, HomeSettings, LakeSettings

SPEC: Final = spec_named("level1")
COMMITTED: Final = (100, 1_000)
"""Files of the commits that are measured."""
_OF_RAY: Final = ("ray::", "raylet", "gcs_server")

Raw = Callable[[Path], float]
Folder = Callable[[], Any]


@dataclass(frozen=True)
class Landed:
    """One landing: seconds on the clock, and processor time of driver, workers and Ray's own processes."""

    seconds: float
    cpu_s: float
    report: TableReport


def run_on_ray(
    brokers: BrokerSettings,
    topic: str,
    messages: int,
    repetitions: int,
    many_slices: int,
    settings: LakeSettings,
    raw: Raw,
    folder: Folder,
) -> dict[str, Any]:
    """Measure landings of a filled topic with as many slices as workers, and with many.

    Args:
        brokers: the cluster.
        topic: a topic with `messages` quotes.
        messages: in the topic.
        repetitions: turns that count.
        many_slices: slices of the landing that measures the cost of a slice.
        settings: with the engine and its workers.
        raw: the bare loop in messages per second.
        folder: makes an empty folder for a block.
    """
    workers, here = settings.workers or 1, EmbeddedEngine(ExpectationValidator)
    # By default workers run at a low priority, and starve beside the broker on the same cores.
    os.environ.setdefault("RAY_worker_niceness", "0")
    started = time.perf_counter()
    with open_engine(settings, brokers, ExpectationValidator) as engine:
        startup_s = time.perf_counter() - started

        def landing(slices: int) -> Landed:
            chosen = settings.model_copy(update={"slice_rows": -(-messages // slices)})
            with folder() as home:
                return _land(Lake(chosen, HomeSettings(home=home)), brokers, topic, messages, engine)

        def embedded() -> Landed:
            with folder() as home:
                return _land(Lake(settings, HomeSettings(home=home)), brokers, topic, messages, here)

        def bare() -> float:
            with folder() as home:
                return raw(home)

        found: dict[str, list[Any]] = interleaved(
            repetitions,
            {
                "few": lambda: landing(workers),
                "many": lambda: landing(many_slices),
                "embedded": embedded,
                "raw": bare,
            },
        )
    with folder() as home:
        commits = _commit_ms(Lake(settings, HomeSettings(home=home)), brokers, topic)
    few, many = found["few"], found["many"]
    few_s, many_s, embedded_s = (
        statistics.median(one.cpu_s for one in found[name]) for name in ("few", "many", "embedded")
    )
    counts = few[-1].report.slices, many[-1].report.slices
    return compare([messages / one.seconds for one in few], found["raw"]) | {
        "cpu_us_per_row": round(few_s / messages * 1e6, 2),
        "embedded_cpu_us_per_row": round(embedded_s / messages * 1e6, 2),
        "messages": messages,
        "engine": "ray",
        "workers": workers,
        "slices": counts[0],
        "startup_s": round(startup_s, 2),
        "many_slices": counts[1],
        "many_slices_cpu_us_per_row": round(many_s / messages * 1e6, 2),
        "many_slices_cpu_ratio": round(many_s / few_s, 2),
        "slice_cpu_ms": round((many_s - few_s) / max(counts[1] - counts[0], 1) * 1e3, 1),
        "commit_ms": commits,
        "memory_setting_mb": settings.memory_bytes // 1_048_576,
        "machine": machine(),
    }


def _land(lake: Lake, brokers: BrokerSettings, topic: str, messages: int, engine: Engine) -> Landed:
    lake.table(SPEC)
    cpu, started = _cpu_s(), time.perf_counter()
    report = land(lake, brokers, SPEC, topic=topic, engine=engine)
    seconds = time.perf_counter() - started
    count = lake.table(SPEC).scan().count()
    if report.messages != messages or count + report.refused != messages:
        raise AssertionError(f"{messages} messages, but {report.messages} read, {count} rows")
    return Landed(seconds, _cpu_s() - cpu, report)


def _cpu_s() -> float:
    """Return the processor time of this process and of all processes of Ray on this machine."""
    times = [os.times()]
    total = sum(one.user + one.system for one in times)
    for process in psutil.process_iter(["name", "cpu_times"]):
        used = process.info["cpu_times"]
        if used is not None and (process.info["name"] or "").startswith(_OF_RAY):
            total += used.user + used.system
    return total


def _commit_ms(lake: Lake, brokers: BrokerSettings, topic: str) -> dict[str, float]:
    """Measure commits of many files: entries of one data file under other names, as slices would bring."""
    stop = threading.Event()
    land(lake, brokers, SPEC, topic=topic, on_progress=lambda _: stop.set(), stop=stop)
    first = next(iter(lake.table(SPEC).scan().plan_files())).file
    return {str(count): _commit(lake, _renamed(first, count)) for count in COMMITTED}


def _commit(lake: Lake, files: Sequence[Any]) -> float:
    started = time.perf_counter()
    append_files(lake.table(SPEC), files, {})
    return round((time.perf_counter() - started) * 1e3, 1)


def _renamed(file: Any, count: int) -> list[Any]:
    made = []
    for number in range(count):
        one = copy.copy(file)
        one._data = list(file._data)
        one[1] = f"{file.file_path}.{number}"
        made.append(one)
    return made
