"""coinstream: what `bench produce`, `consume` and `land` measure, in a process of its own as the others."""

from __future__ import annotations

from pathlib import Path

import msgspec

from benchmarks import consume, land, produce
from benchmarks.peers.work import Job, run
from coinstream.consumer import GroupOptions
from coinstream.messages import Level1
from coinstream.settings import BrokerSettings, LakeSettings, ProducerSettings


def send_all(job: Job) -> float:
    settings = ProducerSettings(
        throughput_topics=("*",),
        throughput_linger_ms=job.linger_ms,
        throughput_batch_bytes=job.batch_bytes,
    )
    read = msgspec.json.Decoder(Level1).decode
    quotes = [read(line) for line in Path(job.quotes).read_bytes().splitlines()]
    return produce.ours(BrokerSettings(brokers=job.bootstrap), settings, quotes, job.messages).rate


def read_all(job: Job) -> float:
    return consume.ours(BrokerSettings(brokers=job.bootstrap), job.topic, job.messages, GroupOptions()).rate


def land_all(job: Job) -> float:
    brokers = BrokerSettings(brokers=job.bootstrap)
    cost, _ = land.landed(brokers, LakeSettings(), job.topic, job.messages, Path(job.folder))
    return cost.rate


run("coinstream", produce=send_all, consume=read_all, land=land_all)
