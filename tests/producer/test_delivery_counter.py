"""Count acknowledged messages exactly: while several threads ask, by topic, and after errors."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from coinstream.monitoring.metrics import Metrics
from coinstream.producer.delivery_counter import (
    CountedPartition,
    DeliveryCounter,
    SettledChunk,
    Unsettled,
)
from coinstream.routing import partition_of_key


def counter() -> tuple[DeliveryCounter, CollectorRegistry]:
    registry = CollectorRegistry()
    return DeliveryCounter(Metrics(registry)), registry


def test_a_caller_waits_for_a_count_in_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = Metrics(CollectorRegistry())
    deliveries = DeliveryCounter(metrics)
    counting, go_on = threading.Event(), threading.Event()

    def slow(*_: Any, **__: Any) -> None:
        counting.set()
        go_on.wait(120)

    monkeypatch.setattr(metrics.producer_latency, "observe", slow)
    deliveries.settled.append(SettledChunk(1.0, [CountedPartition("t", 3, 4)] * 5, []))
    counting_thread = threading.Thread(target=deliveries.count)
    counting_thread.start()
    assert counting.wait(120)
    found: dict[tuple[str, int], int] = {}
    asking_thread = threading.Thread(target=lambda: found.update(deliveries.delivered()))
    asking_thread.start()
    # Long enough for an answer that does not wait.
    asking_thread.join(0.2)
    go_on.set()
    asking_thread.join(10)
    counting_thread.join(10)
    assert found == {("t", 3): 5}


def test_a_chunk_is_settled_when_its_last_reference_is_dropped() -> None:
    settled: deque[SettledChunk] = deque()
    unsettled = Unsettled(settled)
    place = CountedPartition("t", 0, 1)
    unsettled.sent += [place, place]
    unsettled.lost.append(place)
    held_by_a_message = unsettled
    del unsettled
    assert not settled
    del held_by_a_message
    assert [(chunk.sent, chunk.lost) for chunk in settled] == [([place, place], [place])]


chunks = st.lists(
    st.tuples(st.floats(0, 5000), st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3)), max_size=20)),
    max_size=20,
)


@given(chunks)
def test_counts_and_latencies_are_those_of_each_message(
    found: list[tuple[float, list[tuple[int, int]]]],
) -> None:
    deliveries, registry = counter()
    places = {(t, p): CountedPartition(f"t{t}", p, 4) for t in range(3) for p in range(4)}
    expected = Metrics(CollectorRegistry())
    messages = 0.0
    for latency, sent in found:
        deliveries.settled.append(SettledChunk(latency, [places[place] for place in sent], []))
        for topic, _ in sent:
            expected.producer_latency.observe(latency, f"t{topic}")
        messages += len(sent)
    counted = deliveries.delivered()
    assert sum(counted.values()) == messages
    for (topic, partition), place in places.items():
        of_place = sum(sent.count((topic, partition)) for _, sent in found)
        assert counted.get((place.topic, partition), 0) == of_place
        for bound in ("1.0", "10.0", "100.0", "1000.0", "+Inf"):
            name, labels = "redpanda_producer_latency_ms_bucket", {"topic": place.topic, "le": bound}
            alike = labels | {"le": bound.removesuffix(".0")}
            assert registry.get_sample_value(name, alike) == expected.registry.get_sample_value(name, alike)


@given(st.binary(), st.integers(1, 48))
def test_a_key_is_counted_in_one_partition_of_its_topic(key: bytes, partitions: int) -> None:
    places = [CountedPartition("t", number, partitions) for number in range(partitions)]
    assert [place.partition for place in places if place.holds("t", key)] == [
        partition_of_key(key, partitions)
    ]
    assert not any(place.holds("u", key) for place in places)


def test_messages_that_were_given_up_are_not_counted() -> None:
    deliveries, registry = counter()
    good, bad = CountedPartition("t", 0, 1), CountedPartition("u", 1, 2)
    deliveries.settled.append(SettledChunk(3.0, [good, bad, good], [bad]))
    assert {place: count for place, count in deliveries.delivered().items() if count} == {("t", 0): 2}
    name = "redpanda_producer_latency_ms_count"
    assert registry.get_sample_value(name, {"topic": "t"}) == 2
    assert registry.get_sample_value(name, {"topic": "u"}) is None
