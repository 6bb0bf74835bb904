"""Define the settings of the platform, with typed defaults that environment variables override.

Each class has a prefix: `REDPANDA_PRODUCER_LINGER_MS=20` sets `ProducerSettings.linger_ms`. Names that end in
`_ms`, `_s` and `_bytes` are in milliseconds, seconds and bytes.
"""

from coinstream.settings.kafka import (
    BrokerSettings,
    ConsumerSettings,
    KafkaConfig,
    PlatformSettings,
    ProducerSettings,
    SerializationSettings,
)
from coinstream.settings.platform import (
    AlertSettings,
    HomeSettings,
    LagSettings,
    LakeSettings,
    MetricsSettings,
    WatchSettings,
    load_plugins,
)

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
    "load_plugins",
]
