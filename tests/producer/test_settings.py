"""Settings of the pool take effect, or are refused with a reason."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from coinstream.errors import SettingsError
from coinstream.producer.config import (
    latency_profile,
    pooled_config,
    throughput_profile,
    transactional_config,
)
from coinstream.settings import BrokerSettings, KafkaConfig, ProducerSettings

BROKERS = BrokerSettings(brokers="127.0.0.1:1")


def pooled(settings: ProducerSettings) -> KafkaConfig:
    return pooled_config(BROKERS, settings, latency_profile(settings), "p")


def transactional(settings: ProducerSettings) -> KafkaConfig:
    return transactional_config(BROKERS, settings, latency_profile(settings), "t")


@pytest.mark.parametrize("value", ["0", "1", 0, 1])
def test_acks_that_idempotence_forbids_are_refused_with_the_reason(value: Any) -> None:
    with pytest.raises(SettingsError, match=r"ACKS.*idempoten"):
        ProducerSettings(acks=value)


def test_acks_may_be_set_to_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDPANDA_PRODUCER_ACKS", "-1")
    assert pooled(ProducerSettings())["acks"] == "all"


def test_requests_in_flight_take_effect_in_pool_and_transactions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name = "max.in.flight.requests.per.connection"
    assert (pooled(ProducerSettings())[name], transactional(ProducerSettings())[name]) == (1, 5)
    monkeypatch.setenv("REDPANDA_PRODUCER_MAX_IN_FLIGHT", "3")
    assert (pooled(ProducerSettings())[name], transactional(ProducerSettings())[name]) == (3, 3)
    with pytest.raises(SettingsError, match="MAX_IN_FLIGHT"):
        ProducerSettings(max_in_flight=6)


def test_old_names_work_and_name_the_new_ones(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("REDPANDA_PRODUCER_SPREAD", "key")
    with caplog.at_level(logging.WARNING):
        assert ProducerSettings().affinity == "key"
    assert "REDPANDA_PRODUCER_SPREAD is now named REDPANDA_PRODUCER_AFFINITY" in caplog.text
    old: dict[str, Any] = {"pool_max_in_flight": 2}
    assert ProducerSettings(**old).max_in_flight == 2
    monkeypatch.setenv("REDPANDA_PRODUCER_AFFINITY", "topic")
    assert ProducerSettings().affinity == "topic"


@pytest.mark.parametrize(
    ("setting", "value", "name", "expected"),
    [
        ("batch_bytes", 1234, "batch.size", 1234),
        ("linger_ms", 7.0, "linger.ms", 7.0),
        ("compression", "zstd", "compression.type", "zstd"),
        ("delivery_timeout_ms", 55_000, "delivery.timeout.ms", 55_000),
        ("retry_backoff_ms", 321, "retry.backoff.ms", 321),
        ("statistics_interval_ms", 4_321, "statistics.interval.ms", 4_321),
    ],
)
def test_settings_reach_the_producers(setting: str, value: Any, name: str, expected: Any) -> None:
    settings = ProducerSettings.model_validate({setting: value})
    assert pooled(settings)[name] == expected


def test_topics_of_the_throughput_profile_have_its_batches() -> None:
    settings = ProducerSettings(throughput_batch_bytes=2_000_000, throughput_linger_ms=80)
    config = pooled_config(BROKERS, settings, throughput_profile(settings), "p")
    assert (config["batch.size"], config["linger.ms"]) == (2_000_000, 80)


def test_the_transaction_timeout_reaches_transactional_producers() -> None:
    settings = ProducerSettings(transaction_timeout_ms=12_345)
    assert transactional(settings)["transaction.timeout.ms"] == 12_345


def test_retries_limit_the_requests_of_transactions() -> None:
    assert transactional(ProducerSettings(retries=7))["retries"] == 7
