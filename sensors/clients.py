"""Share the clients of the sensors: the cluster with short timeouts, and monitors that live between ticks."""

from __future__ import annotations

from functools import lru_cache

from coinstream.monitoring.cluster import ClusterReader
from coinstream.monitoring.history import lag_history
from coinstream.monitoring.lag import LagMonitor
from coinstream.monitoring.probe import ProducerProbe
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
    """Return the settings of the cluster with timeouts that are short enough for a tick.

    Raises:
        BrokerError: no broker is configured and the local one does not run.
    """
    found = admin.settings()
    timeout = min(found.request_timeout_ms, settings.timeout_ms)
    return found.model_copy(update={"request_timeout_ms": timeout})


def lag_monitor(brokers: BrokerSettings) -> LagMonitor:
    """Return the lag monitor of this process for a cluster: a connection costs more than a request."""
    return _monitor_of(brokers.brokers, brokers.request_timeout_ms, LagSettings(), HomeSettings())


def producer_probe(brokers: BrokerSettings) -> ProducerProbe:
    """Return the producer probe of this process for a cluster."""
    return _probe_of(brokers.brokers, brokers.request_timeout_ms)


def topic_stats_reader(brokers: BrokerSettings) -> TopicStatsReader:
    """Return the topic statistics of this process for a cluster: a rate needs two looks."""
    return _topic_stats_of(brokers.brokers, brokers.request_timeout_ms)
