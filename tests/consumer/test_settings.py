"""Settings of consumers take effect."""

from __future__ import annotations

from typing import Any

import pytest

from coinstream.kafka.partition_reader import reader_config
from coinstream.settings import BrokerSettings, ConsumerSettings


@pytest.mark.parametrize(
    ("setting", "value", "name"),
    [
        ("session_timeout_ms", 12_000, "session.timeout.ms"),
        ("max_poll_interval_ms", 99_000, "max.poll.interval.ms"),
        ("heartbeat_interval_ms", 1_500, "heartbeat.interval.ms"),
        ("fetch_min_bytes", 17, "fetch.min.bytes"),
        ("fetch_max_bytes", 2_000_000, "fetch.max.bytes"),
        ("partition_fetch_bytes", 300_000, "max.partition.fetch.bytes"),
        ("fetch_wait_ms", 44, "fetch.wait.max.ms"),
        ("offset_reset", "earliest", "auto.offset.reset"),
    ],
)
def test_settings_reach_the_consumer(setting: str, value: Any, name: str) -> None:
    settings = ConsumerSettings.model_validate({setting: value})
    assert reader_config(BrokerSettings(brokers="127.0.0.1:1"), settings, "g")[name] == value
