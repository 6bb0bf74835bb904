"""Settings of the pool take effect, or are refused with a reason."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from coinstream.errors import SettingsError
from coinstream.producer.config import latency_profile, pooled_config, transactional_config
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
