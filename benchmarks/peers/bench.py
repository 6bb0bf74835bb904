"""The peers, confluent-kafka by hand and coinstream on the same work: produce, consume, land.

Each runs in a process of its own, on one broker, in turns. All do the same typed work on the same book
tops: msgspec into and out of one definition, keys, record timestamps, lz4, acknowledged by all, idempotent
(consuming and landing: committed). What differs is in `docs/benchmarks.md`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Final

from benchmarks import consume
from benchmarks.chart import bars
from benchmarks.common import Repetition, bench_broker, bench_topic, compare, interleaved, machine
from benchmarks.peers.clients import OURS, PEERS, REFERENCE, Kind, Peer, environment, quotes_file
from coinstream.errors import CoinstreamError
from coinstream.messages import LEVEL1
from coinstream.settings import BrokerSettings

KINDS: Final[tuple[Kind, ...]] = ("produce", "consume", "land")


def run(
    messages: int = 500_000,
    repetitions: int = 3,
    partitions: int = 48,
    only: str = "",
    chart: str = "",
) -> dict[str, Any]:
    """Rates of all at each kind of work in the same run.

    Args:
        messages: by each library in each turn. Many, as each has read ahead when its clock starts.
        repetitions: turns that count.
        partitions: of the topics; 48 as `crypto-level1` has.
        only: these libraries, separated by commas, beside ours and confluent-kafka; all when left out.
        chart: a file for the results as bars (SVG).
    """
    chosen = _chosen(only)
    own = Path(sys.executable)
    everyone = [Peer(OURS, own), Peer(REFERENCE, own)]
    if chosen:
        python = environment()
        everyone += [Peer(name, python) for name in chosen]
    with bench_broker() as brokers:
        result: dict[str, Any] = {
            kind: _work(kind, brokers, everyone, partitions, repetitions, messages) for kind in KINDS
        }
    result["versions"] = {peer.name: peer.version for peer in everyone}
    result["machine"] = machine()
    if chart:
        Path(chart).write_text(chart_of(result))
    return result


def _work(
    kind: Kind,
    brokers: BrokerSettings,
    everyone: list[Peer],
    partitions: int,
    repetitions: int,
    messages: int,
) -> dict[str, Any]:
    with bench_topic(brokers, f"{LEVEL1.topic}-bench", partitions) as topic:
        if kind != "produce":
            consume.fill(brokers, topic, messages)
        with quotes_file(topic.removeprefix(f"{LEVEL1.topic}-"), messages) as prepared:
            candidates: dict[str, Repetition] = {
                peer.name: partial(peer.rate, kind, brokers, topic, messages, prepared) for peer in everyone
            }
            figures = interleaved(repetitions, candidates)
    return compare(figures[OURS], figures[REFERENCE]) | _beside(figures)


def _beside(figures: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    theirs = {name: figures[name] for name in PEERS if name in figures}
    if not theirs:
        return {"peers": {}}
    fastest = max(theirs, key=lambda name: median(theirs[name]))
    times = [mine / other for mine, other in zip(figures[OURS], theirs[fastest], strict=True)]
    return {
        "peers": {name: {"messages_per_second": round(median(rates))} for name, rates in theirs.items()},
        "fastest_peer": fastest,
        "times_the_fastest_peer": round(median(times), 2),
    }


def _chosen(only: str) -> tuple[str, ...]:
    words = [word.strip() for word in only.split(",") if word.strip()]
    if strange := set(words) - {OURS, REFERENCE, *PEERS}:
        raise CoinstreamError(f"{', '.join(sorted(strange))}: there are {', '.join((REFERENCE, *PEERS))}")
    return tuple(name for name in PEERS if name in words) if words else PEERS


def chart_of(result: dict[str, Any]) -> str:
    """Return the results as bars (SVG)."""
    versions = result["versions"]
    groups: dict[str, dict[str, float]] = {
        kind: {
            f"coinstream {versions[OURS]}": result[kind]["messages_per_second"],
            f"confluent-kafka {versions[REFERENCE]}, by hand": result[kind]["raw_messages_per_second"],
            **{
                f"{name} {versions[name]}": found["messages_per_second"]
                for name, found in result[kind]["peers"].items()
            },
        }
        for kind in KINDS
    }
    return bars("Messages per second, the same typed work", groups)
