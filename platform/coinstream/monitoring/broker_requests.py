"""Request sizes of log directories, Redpanda's health, and timestamps of the oldest unhandled records.

Only DescribeLogDirs uses kafka-python, because librdkafka does not support it. Releases of Redpanda's Admin
API differ in their fields; missing or unexpected fields become None.

The first record at or after the committed offset is read for all lagging partitions together, without joining
a group and within a time budget. This also detects partitions without an unhandled message, because
transaction markers and aborted transactions occupy offsets. `PartitionReader` does not fit: it reads all
records of a range of one topic, and waits for them.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import httpx
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from coinstream.errors import BrokerError
from coinstream.kafka import base_config
from coinstream.kafka.records import PartitionKey
from coinstream.settings import BrokerSettings


def topic_sizes(brokers: BrokerSettings) -> dict[str, int]:
    """Return the bytes on disk of each topic over all partitions and replicas (DescribeLogDirs).

    Raises:
        BrokerError: a broker does not answer, or the authentication is OAUTHBEARER, which is not supported.
    """
    from kafka.admin import KafkaAdminClient
    from kafka.errors import KafkaError

    try:
        admin = KafkaAdminClient(**log_dirs_config(brokers))
        try:
            answers = admin.describe_log_dirs()
        finally:
            admin.close()
    except (KafkaError, OSError) as error:
        raise BrokerError(
            f"reading the sizes of topics at {brokers.brokers}: {str(error) or type(error).__name__}"
        ) from None
    return dict(_summed(answers))


def _summed(answers: Iterable[Mapping[str, Any]]) -> Counter[str]:
    sizes: Counter[str] = Counter()
    for answer in answers:
        for folder in answer["log_dirs"]:
            if folder["error_code"]:
                raise BrokerError(
                    f"broker {answer['broker']} refuses to report log sizes "
                    f"(error {folder['error_code']}). Grant this user DESCRIBE on the cluster."
                )
            for topic in folder["topics"]:
                sizes[topic["name"]] += sum(part["partition_size"] for part in topic["partitions"])
    return sizes


def log_dirs_config(brokers: BrokerSettings) -> dict[str, Any]:
    """Return the configuration of kafka-python's admin client.

    Raises:
        BrokerError: the authentication is OAUTHBEARER, which is not supported.
    """
    if brokers.sasl_mechanism == "OAUTHBEARER":
        raise BrokerError("cannot read topic sizes with OAUTHBEARER; use a SCRAM or TLS user")
    return {
        **{_KAFKA_PYTHON[name]: value for name, value in brokers.kafka_config().items()},
        "client_id": "coinstream-sizes",
        "request_timeout_ms": brokers.request_timeout_ms,
        "bootstrap_timeout_ms": brokers.request_timeout_ms,
    }


_KAFKA_PYTHON: Final = {
    "bootstrap.servers": "bootstrap_servers",
    "security.protocol": "security_protocol",
    "sasl.mechanism": "sasl_mechanism",
    "sasl.username": "sasl_plain_username",
    "sasl.password": "sasl_plain_password",
    "ssl.ca.location": "ssl_cafile",
    "ssl.certificate.location": "ssl_certfile",
    "ssl.key.location": "ssl_keyfile",
    "ssl.key.password": "ssl_password",
}
"""kafka-python's names of librdkafka's settings."""


_PATH: Final = "/v1/cluster/health_overview"


@dataclass(frozen=True)
class Overview:
    """Reply of `health_overview`. None means that the release does not report the field."""

    is_healthy: bool | None = None
    reasons: tuple[str, ...] = ()
    nodes: tuple[int, ...] | None = None
    nodes_down: tuple[int, ...] = ()
    leaderless: int | None = None
    under_replicated: int | None = None
    high_disk_usage: tuple[int, ...] = ()


def read_overview(brokers: BrokerSettings, timeout_s: float) -> Overview:
    """Request the health overview from the configured Admin API.

    Raises:
        BrokerError: it does not answer with JSON.
    """
    url = (brokers.admin_url or "").rstrip("/") + _PATH
    try:
        answer = httpx.get(url, timeout=timeout_s, auth=_auth(brokers, url), verify=_verify(brokers))
        answer.raise_for_status()
        told = answer.json()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, OSError) as error:
        raise BrokerError(
            f"the Admin API at {url}: {str(error).splitlines()[0] if str(error) else type(error).__name__}. "
            "Is REDPANDA_ADMIN_URL right?"
        ) from None
    if not isinstance(told, Mapping):
        raise BrokerError(f"the Admin API at {url} answers no JSON object. Is REDPANDA_ADMIN_URL right?")
    return parse_overview(told)


def parse_overview(told: Mapping[str, Any]) -> Overview:
    """Parse the reply of any release."""
    healthy = told.get("is_healthy")
    return Overview(
        is_healthy=healthy if isinstance(healthy, bool) else None,
        reasons=tuple(str(reason) for reason in _list(told.get("unhealthy_reasons"))),
        nodes=_numbers(told["all_nodes"]) if "all_nodes" in told else None,
        nodes_down=_numbers(told.get("nodes_down")),
        leaderless=_count(told, "leaderless"),
        under_replicated=_count(told, "under_replicated"),
        high_disk_usage=_numbers(told.get("high_disk_usage_nodes")),
    )


def _count(told: Mapping[str, Any], what: str) -> int | None:
    # The list of partitions is truncated; the count, if present, is complete.
    count = told.get(f"{what}_count")
    if isinstance(count, int) and not isinstance(count, bool):
        return count
    listed = told.get(f"{what}_partitions")
    return len(listed) if isinstance(listed, list) else None


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _numbers(value: Any) -> tuple[int, ...]:
    return tuple(item for item in _list(value) if isinstance(item, int) and not isinstance(item, bool))


def _auth(brokers: BrokerSettings, url: str) -> tuple[str, str] | None:
    # The same credentials as for Kafka, never in clear text.
    if not url.startswith("https:") or brokers.sasl_username is None or brokers.sasl_password is None:
        return None
    return brokers.sasl_username, brokers.sasl_password.get_secret_value()


def _verify(brokers: BrokerSettings) -> Any:
    import ssl

    if brokers.ssl_ca_location is None:
        return True
    return ssl.create_default_context(cafile=str(brokers.ssl_ca_location))


_MIB: Final = 1_048_576
_READ_AT_ONCE: Final = 48 * _MIB
_BATCH: Final = 2_000
_WAIT_S: Final = 0.01
_CACHED: Final = 100_000


@dataclass(frozen=True)
class OldestRecord:
    """First message at or after an offset. `timestamp_ms` is None if there is no message before `end`."""

    timestamp_ms: int | None
    end: int
    """Offset of the message, or without a timestamp the end of the unreadable offsets."""


class TimeLagReader:
    """Reader of record timestamps with a cache by offset. Thread-safe."""

    def __init__(self, brokers: BrokerSettings, budget_s: float = 1.0) -> None:
        self._brokers = brokers
        self._budget_s = budget_s
        self._lock = threading.Lock()
        self._known: dict[tuple[PartitionKey, int], OldestRecord] = {}

    def oldest(self, offsets: Mapping[PartitionKey, int]) -> dict[PartitionKey, OldestRecord]:
        """Return the first message at or after each offset, without those not read in time."""
        with self._lock:
            found = {
                place: self._known[place, offset]
                for place, offset in offsets.items()
                if (place, offset) in self._known
            }
            missing = {place: offset for place, offset in offsets.items() if place not in found}
            if missing:
                read = self._read(missing)
                found |= read
                self._remember(missing, read)
        return found

    def _remember(
        self, offsets: Mapping[PartitionKey, int], read: Mapping[PartitionKey, OldestRecord]
    ) -> None:
        if len(self._known) + len(read) > _CACHED:
            self._known.clear()
        # The end of the log is not cached, because a message may follow at any time.
        self._known |= {
            (place, offsets[place]): oldest
            for place, oldest in read.items()
            if oldest.timestamp_ms is not None
        }

    def _read(self, offsets: Mapping[PartitionKey, int]) -> dict[PartitionKey, OldestRecord]:
        deadline = time.monotonic() + self._budget_s
        consumer = Consumer(self._config(len(offsets)))
        found: dict[PartitionKey, OldestRecord] = {}
        try:
            consumer.assign(
                [TopicPartition(topic, number, offset) for (topic, number), offset in offsets.items()]
            )
            while len(found) < len(offsets) and time.monotonic() < deadline:
                for message in consumer.consume(_BATCH, _WAIT_S):
                    _note(message, found)
        except KafkaException:
            # Errors are tolerated: the lag in messages comes from the watermarks.
            return found
        finally:
            consumer.close()
        return found

    def _config(self, partitions: int) -> dict[str, object]:
        return {
            **base_config(self._brokers, "coinstream-lag"),
            "group.id": "coinstream-lag-reader",  # Required by the client, but never joined.
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "enable.partition.eof": True,
            "allow.auto.create.topics": False,
            "isolation.level": "read_committed",
            "auto.offset.reset": "earliest",
            "fetch.message.max.bytes": max(min(_READ_AT_ONCE // partitions, _MIB), 16_384),
            "fetch.max.bytes": _READ_AT_ONCE,
            "queued.min.messages": 1,
            "fetch.wait.max.ms": 10,
            "socket.timeout.ms": self._brokers.request_timeout_ms,
        }


def _note(message: Message, found: dict[PartitionKey, OldestRecord]) -> None:
    topic, number, offset = message.topic(), message.partition(), message.offset()
    if topic is None or number is None or offset is None or (topic, number) in found:
        return
    error = message.error()
    if error is None:
        found[topic, number] = OldestRecord(message.timestamp()[1], offset)
    elif error.code() == KafkaError._PARTITION_EOF:
        found[topic, number] = OldestRecord(None, offset)
