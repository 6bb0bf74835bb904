"""The client with its producer pool, as runs are given it."""

import dagster as dg
from pydantic import Field

from coinstream.client import RedpandaClient
from coinstream.settings import ConsumerSettings, ProducerSettings
from resources.admin import AdminResource
from resources.config import config_of, settings_values

ProducerConfig = config_of(ProducerSettings)
ConsumerConfig = config_of(ConsumerSettings)


class RedpandaResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Sends and receives market messages with the settings given here or in the environment."""

    admin: dg.ResourceDependency[AdminResource]
    producer: ProducerConfig = Field(  # type: ignore[valid-type]
        default_factory=ProducerConfig, description="How messages are sent (REDPANDA_PRODUCER_*)."
    )
    consumer: ConsumerConfig = Field(  # type: ignore[valid-type]
        default_factory=ConsumerConfig, description="How messages are read (REDPANDA_CONSUMER_*)."
    )

    def producer_settings(self) -> ProducerSettings:
        """Return the configured producer settings.

        Raises:
            SettingsError: a value is out of its range.
        """
        return ProducerSettings(**settings_values(self.producer))

    def consumer_settings(self) -> ConsumerSettings:
        """Return the configured consumer settings.

        Raises:
            SettingsError: a value is out of its range.
        """
        return ConsumerSettings(**settings_values(self.consumer))

    def open(self) -> RedpandaClient:
        """Return a client for a `with` block; leaving the block flushes, and raises if a message remains.

        Raises:
            BrokerError: no broker is configured and the local one does not run.
            SettingsError: a value is out of its range.
        """
        return RedpandaClient(self.admin.settings(), self.producer_settings(), self.consumer_settings())
