"""Measure the growth of memory while many millions of messages pass through the client."""

from __future__ import annotations

import itertools
import time
from typing import Any

import psutil

from benchmarks.common import bench_broker, bench_topic, machine, quotes
from coinstream.client import RedpandaClient
from coinstream.messages import LEVEL1
from coinstream.settings import ProducerSettings

STEPS = 20


def run(messages: int = 20_000_000, profile: str = "throughput", partitions: int = 48) -> dict[str, Any]:
    """Resident memory after each twentieth, and its growth from a tenth of the way to the end.

    Args:
        messages: in all.
        profile: `throughput` or `latency`.
        partitions: of the topic, whose data is thrown away by the broker at 64 MiB a partition.
    """
    settings = ProducerSettings(throughput_topics=("*",) if profile == "throughput" else ())
    process = psutil.Process()
    limits = {"retention.bytes": str(32 * 1024 * 1024), "segment.bytes": str(16 * 1024 * 1024)}
    with (
        bench_broker() as brokers,
        bench_topic(brokers, f"{LEVEL1.topic}-soak", partitions, **limits) as topic,
        RedpandaClient(brokers, settings) as client,
    ):
        endless = itertools.cycle(quotes(topic.removeprefix(f"{LEVEL1.topic}-"), 50_000))
        started, cpu = time.perf_counter(), time.process_time()
        resident: list[float] = []
        for _ in range(STEPS):
            client.publish(itertools.islice(endless, messages // STEPS))
            client.flush(120)
            resident.append(round(process.memory_info().rss / 1_048_576, 1))
        seconds, cpu_s = time.perf_counter() - started, time.process_time() - cpu
        delivered = sum(client.delivered.values())
    warm = resident[STEPS // 10]
    return {
        "messages": delivered,
        "messages_per_second": round(delivered / seconds),
        "cpu_us_per_message": round(cpu_s / delivered * 1e6, 2),
        "warm_mib": warm,
        "end_mib": resident[-1],
        "growth": round(resident[-1] / warm - 1, 4),
        "resident_mib": resident,
        "machine": machine(),
    }
