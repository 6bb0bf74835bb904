"""Provide the cluster and its administration: topics, groups, offsets."""

import dagster as dg
from confluent_kafka.admin import AdminClient
from pydantic import Field

from coinstream.kafka import admin_client
from coinstream.local_broker import require_broker
from coinstream.settings import BrokerSettings, HomeSettings
from coinstream.topics.apply import Provisioner


class AdminResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Kafka cluster of runs and sensors. Credentials come from the environment (`REDPANDA_SASL_*`, ...)."""

    brokers: str = Field(
        default="",
        description="Bootstrap servers, host:port separated by commas. "
        "Empty: REDPANDA_BROKERS, else the local broker that `coinstream up` started.",
    )
    request_timeout_ms: int = Field(
        default=BrokerSettings().request_timeout_ms,
        description="Timeout of administrative requests in milliseconds.",
    )

    def settings(self) -> BrokerSettings:
        """Return the connection settings of the cluster.

        Raises:
            BrokerError: no broker is configured and the local one is not running.
        """
        configured = BrokerSettings(request_timeout_ms=self.request_timeout_ms)
        if self.brokers:
            configured = configured.model_copy(update={"brokers": self.brokers})
        return require_broker(configured, HomeSettings())

    def admin_client(self) -> AdminClient:
        """Return a client for administrative requests.

        Raises:
            BrokerError: see `settings`.
        """
        return admin_client(self.settings())

    def provisioner(self) -> Provisioner:
        """Return a provisioner of topics.

        Raises:
            BrokerError: see `settings`.
        """
        return Provisioner(self.settings())
