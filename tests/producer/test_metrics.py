"""Test the producer's metrics: counts by partition, batch sizes, latencies, errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from coinstream.client import RedpandaClient
from coinstream.errors import MessageTooLargeError
from coinstream.monitoring.exporter import exporter
from coinstream.settings import BrokerSettings, ProducerSettings
from tests.conftest import TopicFactory
from tests.producer.records import quotes
from tests.support import wait_until


def scrape(url: str, topic: str) -> dict[tuple[str, str], float]:
    """Return samples of a topic by name and the last label's value (partition, bucket or kind of error)."""
    families = text_string_to_metric_families(httpx.get(url).text)
    samples = [sample for family in families for sample in family.samples]
    return {
        (sample.name, _label(sample.labels)): sample.value
        for sample in samples
        if sample.labels.get("topic") == topic
    }


def _label(labels: Mapping[str, Any]) -> str:
    return str(labels.get("partition") or labels.get("le") or labels.get("error_type") or "")


def test_a_scrape_shows_what_was_sent(broker_settings: BrokerSettings, topic: TopicFactory) -> None:
    name = topic("metrics", partitions=3)
    settings = ProducerSettings(statistics_interval_ms=100)
    with exporter() as endpoint, RedpandaClient(broker_settings, settings) as client:
        client.produce(name, quotes(2000))
        client.flush()
        wait_until(
            lambda: scrape(endpoint.url, name).get(("redpanda_batch_size_sum", "")),
            what="batches are counted",
        )
        with pytest.raises(MessageTooLargeError):
            client.send(name, b"k", bytes(2_000_000))
        client.flush()
        counted = client.delivered
        found = scrape(endpoint.url, name)
    for partition in range(3):
        assert found["redpanda_messages_produced_total", str(partition)] == counted[name, partition]
    assert found["redpanda_producer_latency_ms_bucket", "+Inf"] == 2000
    assert found["redpanda_producer_errors_total", "MSG_SIZE_TOO_LARGE"] == 1
    assert 1 <= found["redpanda_batch_size_bucket", "+Inf"] <= 2000
