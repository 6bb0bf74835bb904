"""Measure the processor time of a feed's message against shards of the feed, a process each."""

from __future__ import annotations

import multiprocessing
import time
from typing import Any

from benchmarks.common import bench_topic
from benchmarks.feeds import feed_rate
from benchmarks.scale_consume import PARTITIONS, SETTINGS, WAIT_S, running
from coinstream.messages import LEVEL1
from coinstream.routing import Shard
from coinstream.settings import BrokerSettings

MARKETS = tuple(f"COIN{number}/USDT" for number in range(40))


def feeding(brokers: BrokerSettings, address: str, shards: int, messages: int) -> dict[str, Any]:
    """Run a direct feed of one exchange in shards, from the websocket to acknowledged."""
    spawn = multiprocessing.get_context("spawn")
    start, answers = spawn.Barrier(shards), spawn.SimpleQueue()
    with bench_topic(brokers, f"{LEVEL1.topic}-bench", PARTITIONS) as topic:
        processes = [
            spawn.Process(target=_feed, args=(start, answers, brokers, address, topic, shard, messages))
            for shard in Shard.all(shards)
        ]
        with running(processes):
            told = [answers.get() for _ in processes]
    sent = sum(count for count, _, _ in told)
    return {
        "cpu_us_per_message": round(sum(cpu for _, cpu, _ in told) / sent * 1e6, 2),
        "messages_per_second": round(sum(rate for _, _, rate in told)),
        "symbols": [len(shard.among(MARKETS)) for shard in Shard.all(shards)],
    }


def _feed(
    start: Any,
    answers: Any,
    brokers: BrokerSettings,
    address: str,
    topic: str,
    shard: Shard,
    messages: int,
) -> None:
    mine = shard.among(MARKETS)
    start.wait(WAIT_S)
    cpu = time.process_time()
    report = feed_rate(brokers, SETTINGS, address, topic, mine, limit=messages * len(mine) // len(MARKETS))
    answers.put((report.messages, time.process_time() - cpu, report.rate))
