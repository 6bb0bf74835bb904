"""Every default of the platform, typed, and overridable by environment.

Each class reads its own prefix: `REDPANDA_PRODUCER_LINGER_MS=20` sets `ProducerSettings.linger_ms`.
Times are in milliseconds and sizes in bytes where the name says `_ms` or `_bytes`.
"""

from coinstream.settings.base import PlatformSettings
from coinstream.settings.kafka import (
    BrokerSettings,
    ConsumerSettings,
    KafkaConfig,
    ProducerSettings,
    SerializationSettings,
)
from coinstream.settings.monitoring import AlertSettings, LagSettings, MetricsSettings, WatchSettings
from coinstream.settings.storage import HomeSettings, LakeSettings

__all__ = [
    "AlertSettings",
    "BrokerSettings",
    "ConsumerSettings",
    "HomeSettings",
    "KafkaConfig",
    "LagSettings",
    "LakeSettings",
    "MetricsSettings",
    "PlatformSettings",
    "ProducerSettings",
    "SerializationSettings",
    "WatchSettings",
]
