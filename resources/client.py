"""Provide the client with its producer pool to runs."""

import dagster as dg
from pydantic import Field

from coinstream.client import RedpandaClient
from coinstream.settings import ConsumerSettings, ProducerSettings
from resources.admin import AdminResource
from resources.config import config_of, settings_values

ProducerConfig = config_of(ProducerSettings)
ConsumerConfig = config_of(ConsumerSettings)


class RedpandaResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Client that produces and consumes market messages, configured here or in the environment."""

    admin: dg.ResourceDependency[AdminResource]
    producer: ProducerConfig = Field(  # type: ignore[valid-type]
        default_factory=ProducerConfig, description="Producer settings (REDPANDA_PRODUCER_*)."
    )
    consumer: ConsumerConfig = Field(  # type: ignore[valid-type]
        default_factory=ConsumerConfig, description="Consumer settings (REDPANDA_CONSUMER_*)."
    )

    def producer_settings(self) -> ProducerSettings:
        """Return the configured producer settings.

        Raises:
            SettingsError: a value is out of range.
        """
        return ProducerSettings(**settings_values(self.producer))

    def consumer_settings(self) -> ConsumerSettings:
        """Return the configured consumer settings.

        Raises:
            SettingsError: a value is out of range.
        """
        return ConsumerSettings(**settings_values(self.consumer))

    def open(self) -> RedpandaClient:
        """Return a client for a `with` block, which flushes at its end and raises if messages remain.

        Raises:
            BrokerError: no broker is configured and the local one is not running.
            SettingsError: a value is out of range.
        """
        return RedpandaClient(self.admin.settings(), self.producer_settings(), self.consumer_settings())
