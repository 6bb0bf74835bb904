"""Share clients among sensors: settings with short timeouts, and monitors that are kept between ticks."""

from __future__ import annotations

from functools import lru_cache

from coinstream.monitoring.cluster import ClusterReader
from coinstream.monitoring.health import ProducerProbe
from coinstream.monitoring.lag import LagMonitor, lag_history
from coinstream.monitoring.topic_report import TopicStatsReader
from coinstream.settings import BrokerSettings, HomeSettings, LagSettings, WatchSettings
from resources.admin import AdminResource


@lru_cache(maxsize=1)
def _monitor_of(brokers: str, timeout_ms: int, settings: LagSettings, home: HomeSettings) -> LagMonitor:
    return LagMonitor(_settings(brokers, timeout_ms), settings, lag_history(home, writable=True))


@lru_cache(maxsize=1)
def _probe_of(brokers: str, timeout_ms: int) -> ProducerProbe:
    return ProducerProbe(_settings(brokers, timeout_ms), timeout_s=timeout_ms / 1000)


@lru_cache(maxsize=1)
def _topic_stats_of(brokers: str, timeout_ms: int) -> TopicStatsReader:
    return TopicStatsReader(ClusterReader(_settings(brokers, timeout_ms)))


def _settings(brokers: str, timeout_ms: int) -> BrokerSettings:
    return BrokerSettings(brokers=brokers, request_timeout_ms=timeout_ms)


def with_short_timeout(admin: AdminResource, settings: WatchSettings) -> BrokerSettings:
    """Return the settings of the cluster with timeouts short enough for a tick.

    Raises:
        BrokerError: no broker is configured and the local one is not running.
    """
    found = admin.settings()
    timeout = min(found.request_timeout_ms, settings.timeout_ms)
    return found.model_copy(update={"request_timeout_ms": timeout})


def lag_monitor(brokers: BrokerSettings) -> LagMonitor:
    """Return the process's lag monitor for a cluster, which reuses its connection."""
    return _monitor_of(brokers.brokers, brokers.request_timeout_ms, LagSettings(), HomeSettings())


def producer_probe(brokers: BrokerSettings) -> ProducerProbe:
    """Return the process's producer probe for a cluster."""
    return _probe_of(brokers.brokers, brokers.request_timeout_ms)


def topic_stats_reader(brokers: BrokerSettings) -> TopicStatsReader:
    """Return the process's topic statistics for a cluster; a rate requires two observations."""
    return _topic_stats_of(brokers.brokers, brokers.request_timeout_ms)
