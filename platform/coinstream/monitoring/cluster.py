"""Read groups, committed offsets and partitions from the cluster in a few batched requests.

All requests are read-only; none joins a group or commits offsets.

`AdminClient.list_consumer_group_offsets` is not used: in librdkafka 2.16.0 it crashes the process (a null
pointer in `rd_kafka_handle_OffsetFetch`) if the coordinator has just moved.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from confluent_kafka import (
    Consumer,
    ConsumerGroupState,
    KafkaError,
    KafkaException,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, ClusterMetadata, OffsetSpec

from coinstream.errors import AuthenticationError, BrokerError
from coinstream.kafka import admin_client, base_config, broker_error, checked, translate_errors
from coinstream.kafka.records import PartitionKey
from coinstream.kafka.security import may_describe_cluster, require_topic_rights
from coinstream.settings import BrokerSettings

REBALANCING: Final = {ConsumerGroupState.PREPARING_REBALANCING, ConsumerGroupState.COMPLETING_REBALANCING}
_GONE: Final = {
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._UNKNOWN_TOPIC,
    KafkaError._UNKNOWN_PARTITION,
}
_PAUSE_S: Final = 0.05


class GroupNotFoundError(BrokerError):
    """The consumer group does not exist: it has no member and never committed."""


@dataclass(frozen=True)
class GroupState:
    """State of a group from its coordinator. `owned` are the partitions assigned to members."""

    name: str
    state: str
    members: int
    owned: frozenset[PartitionKey]
    rebalancing: bool = False

    @property
    def exists(self) -> bool:
        """Return whether the coordinator has a group of this name, apart from committed offsets."""
        return self.state != "DEAD"


@dataclass(frozen=True)
class Watermarks:
    """Log start offset, and the offset of the next record."""

    low: int
    high: int


class ClusterReader:
    """Reader of one cluster. Thread-safe. Reuse it: a connection costs more than a request."""

    def __init__(self, brokers: BrokerSettings, admin: AdminClient | None = None) -> None:
        self.brokers: Final = brokers
        self._admin = admin or admin_client(brokers)
        self._timeout = brokers.request_timeout_ms / 1000

    def metadata(self) -> ClusterMetadata:
        """Return brokers, topics, partitions, leaders and replicas.

        Raises:
            BrokerError, AuthenticationError: the cluster does not answer.
        """
        return translate_errors(
            lambda: self._admin.list_topics(timeout=self._timeout),
            "asking for the topics",
            self.brokers.brokers,
        )

    def group_names(self) -> list[str]:
        """Return the names of the consumer groups that this user may describe.

        Raises:
            AuthenticationError: no group is visible, and the user lacks the right to list them.
            BrokerError: the cluster does not answer.
        """
        answer = self._ask("listing the groups", lambda: self._admin.list_consumer_groups())
        if answer.errors and not answer.valid:
            fault = answer.errors[0]
            cause = fault.args[0] if isinstance(fault, KafkaException) else fault
            raise broker_error(cause, "listing the groups", self.brokers.brokers)
        names = sorted(group.group_id for group in answer.valid)
        if not names and self.hides_groups:
            raise AuthenticationError(
                f"no consumer group of {self.brokers.brokers} is visible: this user lacks the right DESCRIBE "
                "on the cluster and on groups. Ask for an ACL, see docs/security.md."
            )
        return names

    def require_topic_rights(self, names: Iterable[str]) -> None:
        """Check that topics which the cluster does not list are missing, and not hidden by ACLs.

        Raises:
            AuthenticationError: this user may not describe a topic; the message names it.
        """
        require_topic_rights(self._admin, names, self.brokers.brokers, self._timeout)

    @cached_property
    def hides_groups(self) -> bool:
        """Return whether groups may exist that this user may not describe."""
        return not may_describe_cluster(self._admin, self._timeout)

    def group(self, name: str) -> GroupState:
        """Return state, members and assigned partitions of a group; the state is DEAD if it does not exist.

        Raises:
            BrokerError, AuthenticationError: the cluster does not answer.
        """
        try:
            found = self._ask(
                f"describing group {name}", lambda: self._admin.describe_consumer_groups([name])[name]
            )
        except KafkaException as error:
            if error.args[0].code() == KafkaError.GROUP_ID_NOT_FOUND:
                return GroupState(name, "DEAD", 0, frozenset())
            raise broker_error(error.args[0], f"describing group {name}", self.brokers.brokers) from None
        owned = frozenset(
            (part.topic, part.partition)
            for member in found.members
            if member.assignment
            for part in member.assignment.topic_partitions
        )
        return GroupState(name, found.state.name, len(found.members), owned, found.state in REBALANCING)

    def watermarks(self, places: Iterable[PartitionKey]) -> dict[PartitionKey, Watermarks]:
        """Return the watermarks of partitions, without deleted ones and those without a leader.

        Raises:
            BrokerError, AuthenticationError: the cluster does not answer.
        """
        parts = [TopicPartition(topic, number) for topic, number in places]
        if not parts:
            return {}
        lows = self._admin.list_offsets({part: OffsetSpec.earliest() for part in parts})  # type: ignore[no-untyped-call]
        highs = self._admin.list_offsets({part: OffsetSpec.latest() for part in parts})  # type: ignore[no-untyped-call]
        low, high = self._offsets(lows), self._offsets(highs)
        return {place: Watermarks(low[place], high[place]) for place in low.keys() & high.keys()}

    def newest(self, places: Iterable[PartitionKey]) -> dict[str, float]:
        """Return the timestamp of each topic's newest record in Unix seconds.

        Empty topics are omitted, and all topics if the broker does not support the request.
        """
        parts = [TopicPartition(topic, number) for topic, number in places]
        if not parts:
            return {}
        asked = self._admin.list_offsets({part: OffsetSpec.max_timestamp() for part in parts})  # type: ignore[no-untyped-call]
        found: dict[str, float] = {}
        for part, future in asked.items():
            try:
                at_ms = future.result(self._timeout * 2).timestamp
            except KafkaException:
                continue
            if at_ms >= 0:
                found[part.topic] = max(found.get(part.topic, 0.0), at_ms / 1000)
        return found

    def _offsets(self, futures: Mapping[TopicPartition, Future[Any]]) -> dict[PartitionKey, int]:
        found: dict[PartitionKey, int] = {}
        failures: list[KafkaError] = []
        for part, future in futures.items():
            try:
                found[part.topic, part.partition] = future.result(self._timeout * 2).offset
            except KafkaException as error:
                failures.append(error.args[0])
        if failures and not found and not all(error.code() in _GONE for error in failures):
            raise broker_error(failures[0], "reading watermarks", self.brokers.brokers)
        return found

    def _ask(self, doing: str, call: Callable[[], Future[Any]]) -> Any:
        """Return the response; retry within the request timeout while a coordinator loads or moves."""
        deadline = time.monotonic() + self._timeout
        while True:
            try:
                return call().result(self._timeout * 2)
            except FutureTimeoutError:
                raise BrokerError(
                    f"{doing} at {self.brokers.brokers}: no answer within {self._timeout * 2:g} s. "
                    "Is the broker running?"
                ) from None
            except KafkaException as error:
                fault = error.args[0]
                if fault.code() in _LOADING and time.monotonic() < deadline:
                    time.sleep(_PAUSE_S)
                    continue
                if fault.code() == KafkaError.GROUP_ID_NOT_FOUND:
                    raise
                raise broker_error(fault, doing, self.brokers.brokers) from None


_LOADING: Final = {
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,
}


_KEPT: Final = 8
"""Maximum open consumers; each has several threads and a connection per broker."""


class CommittedReader:
    """Reader of committed offsets with one unsubscribed consumer per group. Not thread-safe."""

    def __init__(self, brokers: BrokerSettings) -> None:
        self._brokers = brokers
        self._consumers: OrderedDict[str, Consumer] = OrderedDict()

    def read(self, group: str, places: Iterable[PartitionKey]) -> dict[PartitionKey, int]:
        """Return the committed offsets of partitions, without those that have none.

        Raises:
            BrokerError, AuthenticationError: the request to the cluster failed.
        """
        parts = [TopicPartition(topic, number) for topic, number in places]
        if not parts:
            return {}
        consumer = self._consumer(group)
        try:
            answer = consumer.committed(parts, timeout=self._brokers.request_timeout_ms / 1000)
        except KafkaException as error:
            self._drop(group)
            raise broker_error(
                error.args[0], f"reading the offsets of group {group}", self._brokers.brokers
            ) from None
        return {
            (part.topic, part.partition): part.offset
            for part in answer
            if part.offset >= 0 and part.error is None
        }

    def _consumer(self, group: str) -> Consumer:
        consumer = self._consumers.pop(group, None) or checked(lambda: Consumer(self._config(group)))
        self._consumers[group] = consumer
        while len(self._consumers) > _KEPT:
            self._drop(next(iter(self._consumers)))
        return consumer

    def _drop(self, group: str) -> None:
        self._consumers.pop(group).close()

    def _config(self, group: str) -> dict[str, object]:
        return {
            **base_config(self._brokers, "coinstream-lag"),
            "group.id": group,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "allow.auto.create.topics": False,
            "socket.timeout.ms": self._brokers.request_timeout_ms,
        }
