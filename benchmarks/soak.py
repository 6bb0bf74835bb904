"""Measure the growth of memory while many millions of messages pass through the client.

The client runs in a process of its own. In the process of `bench all`, memory that earlier benchmarks freed
but the allocator kept would hide any growth.
"""

from __future__ import annotations

import itertools
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from typing import Any, Final

import psutil

from benchmarks.common import bench_broker, bench_topic, machine, quotes
from coinstream.client import RedpandaClient
from coinstream.messages import LEVEL1
from coinstream.settings import BrokerSettings, ProducerSettings

STEPS: Final = 20


def run(messages: int = 20_000_000, profile: str = "throughput", partitions: int = 48) -> dict[str, Any]:
    """Measure resident memory after each twentieth, and its growth from a tenth of the way to the end.

    Args:
        messages: in all.
        profile: `throughput` or `latency`.
        partitions: of the topic; the broker deletes data above 32 MiB per partition.
    """
    limits = {"retention.bytes": str(32 * 1024 * 1024), "segment.bytes": str(16 * 1024 * 1024)}
    spawn = multiprocessing.get_context("spawn")
    with (
        bench_broker() as brokers,
        bench_topic(brokers, f"{LEVEL1.topic}-soak", partitions, **limits) as topic,
        ProcessPoolExecutor(1, mp_context=spawn) as child,
    ):
        figures = child.submit(_soak, brokers, topic, messages, profile).result()
    return figures | {"machine": machine()}


def _soak(brokers: BrokerSettings, topic: str, messages: int, profile: str) -> dict[str, Any]:
    settings = ProducerSettings(throughput_topics=("*",) if profile == "throughput" else ())
    process = psutil.Process()
    endless = itertools.cycle(quotes(topic.removeprefix(f"{LEVEL1.topic}-"), 50_000))
    start = _resident_mib(process)
    with RedpandaClient(brokers, settings) as client:
        started, cpu = time.perf_counter(), time.process_time()
        resident: list[float] = []
        for _ in range(STEPS):
            client.publish(itertools.islice(endless, messages // STEPS))
            client.flush(120)
            resident.append(_resident_mib(process))
        seconds, cpu_s = time.perf_counter() - started, time.process_time() - cpu
        delivered = sum(client.delivered.values())
    warm = resident[STEPS // 10]
    return {
        "messages": delivered,
        "messages_per_second": round(delivered / seconds),
        "cpu_us_per_message": round(cpu_s / delivered * 1e6, 2),
        "start_mib": start,
        "warm_mib": warm,
        "end_mib": resident[-1],
        "growth": round(resident[-1] / warm - 1, 4),
        "resident_mib": resident,
    }


def _resident_mib(process: psutil.Process) -> float:
    return round(process.memory_info().rss / 1_048_576, 1)
