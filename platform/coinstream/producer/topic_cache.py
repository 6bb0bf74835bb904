"""Cache the topics of the cluster, and clamp record times to the bounds that brokers accept.

Topics are requested at first use and every 30 seconds. Each broker of a cluster learns of topics by itself,
so a listing may lack some. A known topic is therefore kept until listings have lacked it for a while, and a
missing one is requested again before it is an error.

A broker refuses a whole batch if one record time is too far ahead of its clock (an hour by default) or, with
`message.timestamp.before.max.ms`, too old. Without clamping, a wrong exchange clock would end its feed. The
event time in the message stays unchanged.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from confluent_kafka import KafkaException
from confluent_kafka.admin import ConfigResource

from coinstream.errors import CoinstreamError, TopicError
from coinstream.kafka import AUTHORIZATION, admin_client, broker_error
from coinstream.monitoring.metrics import METRICS, Metrics
from coinstream.routing import MessageRouter
from coinstream.settings import BrokerSettings

log = logging.getLogger("coinstream.producer")

REFRESH_S: Final = 30.0
"""Interval of background refreshes, in seconds."""
RETRY_S: Final = 1.0
"""Minimum interval between requests for a missing topic, in seconds."""
PROPAGATION_S: Final = 5.0
"""Time in seconds for which a listing without a topic is doubted: the broker that answered may have started
just now, or may not know a new topic yet."""

MARGIN_MS: Final = 300_000
"""Allowed difference between this machine's clock and the broker's, at most half of a bound."""

UNBOUNDED_MS: Final = 2**62
"""Bound that no record time reaches."""

_LOOK_AGAIN_S: Final = 0.2
_TIME_BOUND: Final = "message.timestamp"


class TimeBounds(NamedTuple):
    """Maximum distance of a topic's record times before and after the broker's clock, in milliseconds."""

    before_ms: int = UNBOUNDED_MS
    ahead_ms: int = 3_600_000

    def limits(self, now_ms: int) -> tuple[int, int]:
        """Return the earliest and latest accepted record times."""
        before = self.before_ms - min(MARGIN_MS, self.before_ms // 2)
        ahead = self.ahead_ms - min(MARGIN_MS, self.ahead_ms // 2)
        return now_ms - before, now_ms + ahead


DEFAULT_BOUNDS: Final = TimeBounds()
"""Default bounds of Kafka and Redpanda."""

_NOW: Final = TimeBounds(0, 0)


class TopicCache:
    """Cached topics of the cluster, refreshed in the background and passed to the router."""

    def __init__(self, brokers: BrokerSettings, on_change: Callable[[], None]) -> None:
        self._brokers = brokers
        self._on_change = on_change
        self._admin = admin_client(brokers)
        self._lock = threading.Lock()
        self._asked = 0.0
        self._existing: dict[str, int] = {}
        self._lacking_since: dict[str, float] = {}
        self._doubted_until: dict[str, float] = {}
        self._router = MessageRouter()
        self._stopping = threading.Event()
        self._refresher = threading.Thread(
            target=self._refresh_regularly, name="coinstream-topics", daemon=True
        )

    @property
    def router(self) -> MessageRouter:
        """Return the router with the current topics, which are requested at first use.

        Raises:
            BrokerError, AuthenticationError: the request to the cluster failed.
        """
        if not self._asked:
            self.refresh()
        return self._router

    def require(self, topic: str, key: bytes | None = None) -> int:
        """Return the number of partitions of a topic.

        The first call for a missing topic waits until brokers have had time to learn of it. Later calls
        request it at most once per second, without waiting.

        Raises:
            TopicError: the topic does not exist; the message contains the topic and the key.
            BrokerError, AuthenticationError: the request to the cluster failed.
        """
        partitions = self._existing.get(topic) or self._request(topic)
        if partitions is None:
            raise TopicError(
                f"topic {topic} does not exist at {self._brokers.brokers} (message with key {key!r}); "
                "create it with `coinstream topics apply`"
            )
        return partitions

    def _request(self, topic: str) -> int | None:
        """Request the topics until this one is listed, or has been missing for too long."""
        if time.monotonic() - self._asked > RETRY_S:
            self.refresh()
        if topic not in self._existing:
            self._check_access(topic)
        until = self._doubted_until.setdefault(topic, time.monotonic() + PROPAGATION_S)
        while topic not in self._existing and time.monotonic() < until:
            if self._stopping.wait(_LOOK_AGAIN_S):
                break
            self.refresh()
        if topic in self._existing:
            self._doubted_until.pop(topic, None)
        return self._existing.get(topic)

    def _check_access(self, topic: str) -> None:
        # The list of all topics omits topics without DESCRIBE; a request by name fails for them.
        try:
            found = self._admin.list_topics(topic, timeout=self._brokers.request_timeout_ms / 1000)
        except KafkaException as failed:
            raise broker_error(failed.args[0], f"asking for {topic}", self._brokers.brokers) from None
        error = found.topics[topic].error if topic in found.topics else None
        if error is not None and error.code() in AUTHORIZATION:
            raise broker_error(error, f"asking for {topic}", self._brokers.brokers)

    def time_bounds(self, topic: str) -> TimeBounds | None:
        """Return the bounds of a topic's record times, or None if they are unknown."""
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
        timeout_s = self._brokers.request_timeout_ms / 1000
        try:
            found = self._admin.describe_configs([resource], request_timeout=timeout_s)[resource].result(
                timeout_s
            )
        except (KafkaException, TimeoutError) as error:
            log.warning("cannot read the bounds of record times of %s: %s", topic, error)
            return None
        before, ahead = found.get(f"{_TIME_BOUND}.before.max.ms"), found.get(f"{_TIME_BOUND}.after.max.ms")
        if before is None or ahead is None:
            return None  # a broker before Kafka 3.6
        return TimeBounds(min(int(before.value), UNBOUNDED_MS), min(int(ahead.value), UNBOUNDED_MS))

    def refresh(self) -> None:
        """Request the topics now.

        Raises:
            BrokerError, AuthenticationError: the request to the cluster failed.
        """
        with self._lock:
            try:
                found = self._admin.list_topics(timeout=self._brokers.request_timeout_ms / 1000).topics
            except KafkaException as failed:
                raise broker_error(failed.args[0], "listing topics", self._brokers.brokers) from None
            if not self._asked:
                self._refresher.start()
            self._asked = time.monotonic()
            existing = self._with_kept({name: len(topic.partitions) for name, topic in found.items()})
            if existing != self._existing:
                self._existing = existing
                self._router.set_topics(existing)
                self._on_change()

    def _with_kept(self, listed: dict[str, int]) -> dict[str, int]:
        """Add known topics and partitions which listings have not lacked for long."""
        now = time.monotonic()
        kept = {}
        for name, partitions in self._existing.items():
            if listed.get(name, 0) >= partitions:
                self._lacking_since.pop(name, None)
            elif now - self._lacking_since.setdefault(name, now) < PROPAGATION_S:
                kept[name] = partitions
            else:
                del self._lacking_since[name]
        return listed | kept

    def close(self) -> None:
        """Stop refreshing."""
        self._stopping.set()
        if self._refresher.is_alive():
            self._refresher.join()

    def _refresh_regularly(self) -> None:
        while not self._stopping.wait(REFRESH_S):
            try:
                self.refresh()
            except CoinstreamError as error:
                # The cached topics stay in use; producing reports a broker that does not answer.
                log.warning("%s", error)


class RecordTimes:
    """Clamp record times to the bounds of each topic, and count changed ones. Thread-safe.

    A topic has the default bounds until the broker refuses a batch for its record times. Its bounds are then
    read from the broker. If that fails or the broker refuses again, record times become the time of sending.
    """

    def __init__(
        self, read_bounds: Callable[[str], TimeBounds | None] | None = None, metrics: Metrics = METRICS
    ) -> None:
        self._read_bounds = read_bounds
        self._metrics = metrics
        self._bounds: dict[str, TimeBounds] = {}
        self._strictest = DEFAULT_BOUNDS
        self._lock = threading.Lock()
        self._held: Counter[str] = Counter()

    @property
    def held(self) -> Mapping[str, int]:
        """Return the number of messages with a changed record time, by topic."""
        with self._lock:
            return dict(self._held)

    def safe_limits(self) -> tuple[int, int]:
        """Return the earliest and latest record times that every topic accepts now."""
        return self._strictest.limits(_now_ms())

    def hold(self, topic: str, at_ms: int, *, count: bool = True) -> int:
        """Return the record time closest to `at_ms` within the bounds of the topic.

        Args:
            topic: topic of the message.
            at_ms: event time in Unix milliseconds.
            count: whether to count a change; false for a message that is sent again.
        """
        earliest, latest = self._bounds.get(topic, DEFAULT_BOUNDS).limits(_now_ms())
        held = min(max(at_ms, earliest), latest)
        if held != at_ms and count:
            with self._lock:
                self._held[topic] += 1
            self._metrics.record_times_held.labels(topic).inc()
        return held

    def was_held(self, at_ms: int) -> bool:
        """Return whether the default bounds already changed the time at the first attempt."""
        earliest, latest = DEFAULT_BOUNDS.limits(_now_ms())
        return not earliest <= at_ms <= latest

    def tighten(self, topic: str) -> None:
        """Narrow the bounds of a topic after the broker refused a batch for its record times."""
        known = self._bounds.get(topic)
        found = self._read_bounds(topic) if known is None and self._read_bounds is not None else None
        bounds = _NOW if found is None or found == DEFAULT_BOUNDS else found
        if bounds == known:
            return
        message = "%s refused record times: they are held to %d ms before and %d ms after the clock"
        log.warning(message, topic, *bounds)
        with self._lock:
            self._bounds[topic] = bounds
            self._strictest = TimeBounds(*map(min, zip(self._strictest, bounds, strict=True)))


def _now_ms() -> int:
    return int(time.time() * 1000)
