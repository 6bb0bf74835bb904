"""Counting what was acknowledged, while several threads ask."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from coinstream.monitoring.metrics import Metrics
from coinstream.producer.delivery_counter import Receipt, Receipts, Target


def test_who_asks_waits_for_a_count_that_is_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = Metrics(CollectorRegistry())
    receipts = Receipts(metrics)
    counting, go_on = threading.Event(), threading.Event()

    def slow(*_: Any, **__: Any) -> None:
        counting.set()
        go_on.wait(10)

    monkeypatch.setattr(metrics.producer_latency, "observe", slow)
    target = Target(None, "t", b"k", 3, bytes)
    receipts.new.append(Receipt(1.0, [target] * 5, []))
    counter = threading.Thread(target=receipts.count)
    counter.start()
    assert counting.wait(10)
    found: dict[tuple[str, int], int] = {}
    asker = threading.Thread(target=lambda: found.update(receipts.delivered()))
    asker.start()
    # Long enough for an answer that does not wait.
    asker.join(0.2)
    go_on.set()
    asker.join(10)
    counter.join(10)
    assert found == {("t", 3): 5}
