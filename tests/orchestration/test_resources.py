"""Resources have the defaults of the settings, and can be configured for one run."""

import pytest

from coinstream.errors import SettingsError
from coinstream.settings import BrokerSettings, ConsumerSettings, ProducerSettings
from resources.admin import AdminResource
from resources.client import ConsumerConfig, ProducerConfig, RedpandaResource


def client(**values: object) -> RedpandaResource:
    return RedpandaResource(admin=AdminResource(brokers="127.0.0.1:1"), **values)


def test_defaults_are_those_of_the_settings() -> None:
    assert client().producer_settings() == ProducerSettings()
    assert client().consumer_settings() == ConsumerSettings()


def test_a_run_can_configure_every_setting() -> None:
    wanted = {"linger_ms": 20.0, "compression": "zstd", "throughput_topics": ["crypto-level1*"]}
    resource = client(producer=ProducerConfig(**wanted), consumer=ConsumerConfig(offset_reset="earliest"))
    settings = resource.producer_settings()
    assert (settings.linger_ms, settings.compression) == (20.0, "zstd")
    assert settings.throughput_topics == ("crypto-level1*",)
    assert resource.consumer_settings().offset_reset == "earliest"


def test_a_value_out_of_range_is_an_error_that_names_it() -> None:
    with pytest.raises(SettingsError, match="MAX_IN_FLIGHT"):
        client(producer=ProducerConfig(max_in_flight=6)).producer_settings()


def test_configured_brokers_win_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDPANDA_BROKERS", "elsewhere:9092")
    monkeypatch.setenv("REDPANDA_SASL_USERNAME", "feeds")
    assert AdminResource().settings() == BrokerSettings()
    configured = AdminResource(brokers="here:9092").settings()
    assert (configured.brokers, configured.sasl_username) == ("here:9092", "feeds")
