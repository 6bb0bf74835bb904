"""Names, labels and buckets are those of the specification, read back through a real scrape."""

import httpx
import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from coinstream.monitoring.exporter import ExporterError, exporter
from coinstream.monitoring.metrics import Metrics

MS = ["1", "5", "10", "25", "50", "100", "250", "500", "1000", "+Inf"]


def filled() -> Metrics:
    metrics = Metrics()
    metrics.messages_produced.labels("t", "3").inc(7)
    metrics.producer_latency.observe(4.0, "t", count=7)
    metrics.batch_size.observe(7, "t")
    metrics.producer_errors.labels("t", "MSG_TIMED_OUT").inc()
    metrics.messages_consumed.labels("t", "3", "g").inc(5)
    metrics.consumer_latency.observe(2000.0, "t", "g")
    metrics.consumer_errors.labels("t", "3", "g", "ValueError").inc()
    metrics.consumer_lag.replace("g", {("t", "3", "g"): 2})
    metrics.topic_size_bytes.replace("m", {("t",): 900})
    metrics.topic_partitions.replace("m", {("t",): 24})
    metrics.topic_message_rate.replace("m", {("t",): 12.5})
    return metrics


Samples = dict[str, list[tuple[dict[str, str], float]]]


def scrape(metrics: Metrics) -> tuple[str, Samples]:
    text = generate_latest(metrics.registry).decode()
    return text, parse(text)


def parse(text: str) -> Samples:
    samples: Samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            samples.setdefault(sample.name, []).append((sample.labels, sample.value))
    return samples


def test_every_name_and_label_of_the_specification() -> None:
    _, samples = scrape(filled())
    group = {"topic": "t", "partition": "3", "consumer_group": "g"}
    assert samples["redpanda_messages_produced_total"] == [({"topic": "t", "partition": "3"}, 7.0)]
    assert samples["redpanda_producer_errors_total"] == [({"topic": "t", "error_type": "MSG_TIMED_OUT"}, 1.0)]
    assert samples["redpanda_messages_consumed_total"] == [(group, 5.0)]
    assert samples["redpanda_consumer_lag"] == [(group, 2.0)]
    assert samples["redpanda_consumer_errors_total"] == [({**group, "error_type": "ValueError"}, 1.0)]
    assert samples["redpanda_topic_size_bytes"] == [({"topic": "t"}, 900.0)]
    assert samples["redpanda_topic_partitions"] == [({"topic": "t"}, 24.0)]
    assert samples["redpanda_topic_message_rate"] == [({"topic": "t"}, 12.5)]


@pytest.mark.parametrize(
    ("name", "labels", "bounds"),
    [
        ("redpanda_producer_latency_ms", {"topic"}, MS),
        ("redpanda_consumer_latency_ms", {"topic", "consumer_group"}, MS),
        ("redpanda_batch_size", {"topic"}, ["1", "10", "50", "100", "500", "1000", "5000", "+Inf"]),
    ],
)
def test_buckets(name: str, labels: set[str], bounds: list[str]) -> None:
    _, samples = scrape(filled())
    buckets = samples[f"{name}_bucket"]
    assert [found["le"] for found, _ in buckets] == bounds
    assert all(set(found) == labels | {"le"} for found, _ in buckets)


def test_an_observation_can_stand_for_a_batch() -> None:
    _, samples = scrape(filled())
    counts = {labels["le"]: value for labels, value in samples["redpanda_producer_latency_ms_bucket"]}
    assert counts["1"] == 0
    assert counts["5"] == counts["+Inf"] == 7
    assert samples["redpanda_producer_latency_ms_sum"] == [({"topic": "t"}, 28.0)]
    assert samples["redpanda_producer_latency_ms_count"] == [({"topic": "t"}, 7.0)]


def test_a_value_on_a_bound_belongs_to_that_bucket() -> None:
    metrics = Metrics()
    metrics.producer_latency.observe(5, "t")
    _, samples = scrape(metrics)
    counts = {labels["le"]: value for labels, value in samples["redpanda_producer_latency_ms_bucket"]}
    assert (counts["1"], counts["5"]) == (0, 1)


def test_no_series_beyond_the_specified_names() -> None:
    text, _ = scrape(filled())
    assert "_created" not in text


def test_a_replaced_gauge_forgets_what_is_gone_and_keeps_other_sources() -> None:
    metrics = filled()
    metrics.consumer_lag.replace("other", {("t", "0", "other"): 1})
    metrics.consumer_lag.replace("g", {})
    _, samples = scrape(metrics)
    assert [labels["consumer_group"] for labels, _ in samples["redpanda_consumer_lag"]] == ["other"]


def test_the_exporter_serves_the_registry() -> None:
    metrics = filled()
    with exporter(metrics=metrics) as running:
        text = httpx.get(running.url, timeout=5).raise_for_status().text
    assert parse(text) == scrape(metrics)[1]
    with pytest.raises(httpx.ConnectError):
        httpx.get(running.url, timeout=5)


def test_labels_are_checked() -> None:
    with pytest.raises(ValueError, match="topic, consumer_group"):
        Metrics().consumer_latency.observe(1.0, "t")


def test_a_taken_port_is_a_clear_error() -> None:
    with (
        exporter(metrics=Metrics()) as running,
        pytest.raises(ExporterError, match=f"127.0.0.1:{running.port}"),
        exporter(port=running.port, metrics=Metrics()),
    ):
        pass
