"""Check the health of the producer with a probe, of consumer groups and of the cluster."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

from confluent_kafka import KafkaError, KafkaException, Message, Producer
from confluent_kafka.admin import ClusterMetadata

from coinstream.backoff import produce_when_room
from coinstream.errors import BrokerError, CoinstreamError
from coinstream.kafka import base_config, broker_error, checked
from coinstream.monitoring.broker_requests import Overview, read_overview
from coinstream.monitoring.cluster import ClusterReader
from coinstream.monitoring.group_lag import GroupLag, GroupStatus, Status, evaluate_group, worst_status
from coinstream.monitoring.lag import LagMonitor
from coinstream.settings import BrokerSettings, LagSettings, ProducerSettings
from coinstream.topics.apply import Provisioner
from coinstream.topics.catalogue import HEALTH, HEALTH_TOPIC

ACKNOWLEDGED_WITHIN_MS: Final = 100.0
"""Maximum time to the acknowledgement for a healthy producer."""


@dataclass(frozen=True)
class ProducerHealth:
    """Health of the producer. `latency_ms` is None if no message was acknowledged."""

    status: Status
    latency_ms: float | None
    detail: str


@dataclass(frozen=True)
class GroupHealth:
    """Health of a consumer group. If it cannot be measured, `lag` is -1 and `error` is the cause."""

    group: str
    status: Status
    lag: int
    seconds: float | None
    state: str
    members: int
    group_status: GroupStatus | None
    """Status from `evaluate_group`."""
    reason: str
    detail: str
    error: str | None = None


@dataclass(frozen=True)
class ClusterHealth:
    """Health of the cluster. Partitions are named `topic/number`; None if only their count is known."""

    status: Status
    brokers: tuple[int, ...]
    brokers_down: tuple[int, ...]
    leaderless: int
    under_replicated: int
    offline_replicas: int
    partitions: tuple[str, ...]
    """The first hundred affected partitions."""
    source: str
    detail: str


def producer_health(latency_ms: float | None, error: str | None = None) -> ProducerHealth:
    """Return healthy below 100 ms, degraded above, unhealthy after an error."""
    if latency_ms is None:
        return ProducerHealth(Status.UNHEALTHY, None, error or "no acknowledgement")
    if latency_ms < ACKNOWLEDGED_WITHIN_MS:
        return ProducerHealth(Status.HEALTHY, latency_ms, f"acknowledged in {latency_ms:.1f} ms")
    return ProducerHealth(
        Status.DEGRADED,
        latency_ms,
        f"acknowledged only after {latency_ms:.0f} ms: look at the brokers' load and disks",
    )


def group_health(lag: GroupLag, settings: LagSettings) -> GroupHealth:
    """Return the health of a group from `evaluate_group`."""
    found = evaluate_group(lag, settings)
    return GroupHealth(
        lag.group,
        found.health,
        lag.messages,
        lag.seconds,
        lag.state,
        lag.members,
        found.status,
        found.reason,
        f"{found.status}: {found.detail}; {_amounts(lag)}",
    )


def check_group(monitor: LagMonitor, group: str) -> GroupHealth:
    """Measure and evaluate a group. On an error the group is unhealthy with lag -1."""
    try:
        return group_health(monitor.measure(group), monitor.settings)
    except CoinstreamError as error:
        text = str(error)
        return GroupHealth(group, Status.UNHEALTHY, -1, None, "UNKNOWN", 0, None, text, text, text)


def check_cluster(cluster: ClusterReader, timeout_s: float | None = None) -> ClusterHealth:
    """Check the brokers and, if configured, Redpanda's Admin API. On an error the cluster is unhealthy."""
    brokers = cluster.brokers
    try:
        seen = _by_metadata(cluster.metadata())
    except CoinstreamError as error:
        return ClusterHealth(Status.UNHEALTHY, (), (), 0, 0, 0, (), "kafka", str(error))
    if brokers.admin_url is None:
        return seen
    try:
        told = read_overview(brokers, timeout_s or brokers.request_timeout_ms / 1000)
    except BrokerError as error:
        detail = f"{seen.detail}; {error}"
        return replace(seen, status=worst_status([seen.status, Status.DEGRADED]), detail=detail)
    return _joined(seen, told)


def check_brokers(brokers: BrokerSettings) -> ClusterHealth:
    """Check the cluster on a new connection; see `check_cluster`."""
    return check_cluster(ClusterReader(brokers))


def _by_metadata(metadata: ClusterMetadata) -> ClusterHealth:
    alive = set(metadata.brokers)
    leaderless, thin, offline, named, homes = 0, 0, 0, [], set[int]()
    for name, topic in sorted(metadata.topics.items()):
        for number, part in topic.partitions.items():
            homes |= set(part.replicas)
            missing = set(part.replicas) - alive
            offline += len(missing)
            leaderless += part.leader < 0
            is_thin = len(part.isrs) < len(part.replicas)
            thin += is_thin
            if is_thin or part.leader < 0:
                named.append(f"{name}/{number}")
    down = tuple(sorted(homes - alive))
    return ClusterHealth(
        _cluster_status(leaderless, thin, down),
        tuple(sorted(alive)),
        down,
        leaderless,
        thin,
        offline,
        tuple(named[:100]),
        "kafka",
        _cluster_text(len(alive), down, leaderless, thin),
    )


def _joined(seen: ClusterHealth, told: Overview) -> ClusterHealth:
    down = tuple(sorted(set(seen.brokers_down) | set(told.nodes_down)))
    leaderless = max(seen.leaderless, told.leaderless or 0)
    thin = max(seen.under_replicated, told.under_replicated or 0)
    status = worst_status([seen.status, _cluster_status(leaderless, thin, down)])
    if told.is_healthy is False or told.high_disk_usage:
        status = worst_status([status, Status.DEGRADED])
    detail = _cluster_text(len(seen.brokers), down, leaderless, thin)
    if told.reasons:
        detail += f"; Redpanda says: {', '.join(told.reasons)}"
    if told.high_disk_usage:
        detail += f"; disks fill up on broker {', '.join(map(str, told.high_disk_usage))}"
    return ClusterHealth(
        status,
        seen.brokers,
        down,
        leaderless,
        thin,
        seen.offline_replicas,
        seen.partitions,
        "kafka and admin api",
        detail,
    )


def _cluster_status(leaderless: int, thin: int, down: tuple[int, ...]) -> Status:
    if leaderless:
        return Status.UNHEALTHY
    return Status.DEGRADED if thin or down else Status.HEALTHY


def _cluster_text(alive: int, down: tuple[int, ...], leaderless: int, thin: int) -> str:
    faults = []
    if down:
        faults.append(f"broker {', '.join(map(str, down))} down")
    if leaderless:
        faults.append(f"{leaderless} partition(s) without a leader: no reads, no writes there")
    if thin:
        faults.append(f"{thin} partition(s) with fewer replicas in sync than wanted")
    return f"{alive} broker(s) alive" + "".join(f"; {fault}" for fault in faults)


def _amounts(lag: GroupLag) -> str:
    parts = [f"lag {lag.messages:,}"]
    if lag.seconds:
        parts.append(f"oldest message {lag.seconds:.0f} s")
    parts.append(f"{lag.state.lower()}, {lag.members} member(s)")
    if lag.lost:
        parts.append(f"{lag.lost:,} message(s) were deleted unhandled")
    return "; ".join(parts)


@dataclass
class _Report:
    done: threading.Event = field(default_factory=threading.Event)
    error: KafkaError | None = None

    def __call__(self, error: KafkaError | None, _: Message) -> None:
        self.error = error
        self.done.set()


class ProducerProbe:
    """Producer with the platform's settings that sends one message per check. Reuse it between checks.

    The first check opens the connection with an untimed message, and creates the topic `health-check` if it
    is missing.
    """

    def __init__(
        self, brokers: BrokerSettings, settings: ProducerSettings | None = None, timeout_s: float = 5.0
    ) -> None:
        chosen = settings or ProducerSettings()
        self._brokers: Final = brokers.model_copy(
            update={"request_timeout_ms": min(brokers.request_timeout_ms, int(timeout_s * 1000))}
        )
        self._timeout_s = timeout_s
        self._cluster = ClusterReader(self._brokers)
        config = base_config(self._brokers, "coinstream-health") | {
            "acks": chosen.acks,
            "compression.type": chosen.compression,
            "linger.ms": chosen.linger_ms,
            "delivery.timeout.ms": int(timeout_s * 1000),
            "allow.auto.create.topics": False,
        }
        self._producer = checked(lambda: Producer(config))
        self._is_warm = False

    def check(self) -> ProducerHealth:
        """Send and time a message. On an error the producer is unhealthy."""
        try:
            if not self._is_warm:
                self._prepare()
            return producer_health(self._send())
        except CoinstreamError as error:
            self._is_warm = False
            return producer_health(None, str(error))

    def close(self) -> None:
        """Close the producer and discard unsent messages."""
        self._producer.purge()
        self._producer.flush(0)

    def _prepare(self) -> None:
        if HEALTH_TOPIC not in self._cluster.metadata().topics:
            provisioner = Provisioner(self._brokers)
            provisioner.apply(provisioner.plan([HEALTH]))
        self._send()
        self._is_warm = True

    def _send(self) -> float:
        report, started = _Report(), time.perf_counter()
        send = partial(self._producer.produce, HEALTH_TOPIC, b"%.3f" % time.time(), on_delivery=report)
        try:
            produce_when_room(send, self._producer.poll, self._timeout_s)
        except (BufferError, KafkaException) as error:
            raise BrokerError(f"cannot send to {HEALTH_TOPIC}: {error}") from None
        while not report.done.is_set():
            left = self._timeout_s - (time.perf_counter() - started)
            if left <= 0:
                raise BrokerError(
                    f"no acknowledgement for {HEALTH_TOPIC} from {self._brokers.brokers} within "
                    f"{self._timeout_s:g} s. Is the broker running?"
                )
            self._producer.poll(min(left, 0.1))
        if report.error is not None:
            raise broker_error(report.error, f"sending to {HEALTH_TOPIC}", self._brokers.brokers)
        return (time.perf_counter() - started) * 1000


def check_producer(
    brokers: BrokerSettings, settings: ProducerSettings | None = None, timeout_s: float = 5.0
) -> ProducerHealth:
    """Check the producer once with a new probe.

    Raises:
        SettingsError: a setting is invalid.
    """
    probe = ProducerProbe(brokers, settings, timeout_s)
    try:
        return probe.check()
    finally:
        probe.close()
