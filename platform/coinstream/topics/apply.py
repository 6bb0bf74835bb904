"""Read the topics of a cluster, and apply a plan to them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (
    AlterConfigOpType,
    ClusterMetadata,
    ConfigEntry,
    ConfigResource,
    ConfigSource,
    NewPartitions,
    NewTopic,
    ResourceType,
)

from coinstream.errors import TopicError
from coinstream.kafka import AUTHORIZATION, admin_client, broker_error, translate_errors
from coinstream.kafka.security import require_topic_rights
from coinstream.settings import BrokerSettings
from coinstream.text import no_such_topic
from coinstream.topics.catalogue import TopicSpec, fit_to_cluster, market_topics
from coinstream.topics.plan import (
    IGNORED_BY_REDPANDA,
    REDPANDA_SILENT_KEYS,
    ActualTopic,
    Plan,
    PlanAction,
    TopicPlan,
    plan,
)

log = logging.getLogger(__name__)

_LOOK_AGAIN_S: Final = 0.05
_VISIBLE_S: Final = 60.0
"""Maximum time to wait until the cluster lists new topics: a busy broker creates partitions slowly."""
_OWN_PREFIX: Final = "crypto-"
_REDPANDA_ONLY: Final = "redpanda."
"""Prefix of Redpanda's own settings, which every topic reports."""


class Provisioner:
    """Plans and applies the topics of one cluster."""

    def __init__(self, brokers: BrokerSettings) -> None:
        self._brokers = brokers
        self._admin = admin_client(brokers)
        self._timeout = brokers.request_timeout_ms / 1000

    def plan(self, specs: Iterable[TopicSpec]) -> Plan:
        """Return the difference between the specs and the cluster, without changing anything.

        Raises:
            BrokerError: the request to the cluster failed.
            TopicError: the cluster reports no broker.
        """
        metadata = self._metadata()
        fitted = [fit_to_cluster(spec, len(metadata.brokers)) for spec in specs]
        names = [spec.name for spec, _ in fitted]
        self._require_rights(name for name in names if name not in metadata.topics)
        actual = {topic.name: topic for topic in self._describe(metadata, names)}
        unmanaged = sorted(
            name for name in metadata.topics if name.startswith(_OWN_PREFIX) and name not in names
        )
        silent = self._silent_keys(actual.values())
        return plan(fitted, actual, silent_keys=silent, unmanaged=unmanaged)

    def apply(self, wanted: Plan, on_done: Callable[[TopicPlan], None] = lambda _: None) -> None:
        """Create and change topics according to the plan, then wait until the cluster reports the result.

        The operation is idempotent: a topic that already exists is not an error.

        Raises:
            TopicError: the broker refused a topic; the message names the reason. Other topics are applied.
        """
        failures: list[str] = []
        changed: dict[str, int] = {}
        settings: dict[str, dict[str, str | None]] = {}
        for topic in wanted.topics:
            try:
                self._apply_one(topic)
            except KafkaException as error:
                if error.args[0].code() in AUTHORIZATION:
                    raise broker_error(
                        error.args[0], f"{topic.action.value} topic {topic.name}", self._brokers.brokers
                    ) from None
                failures.append(f"{topic.name}: {error.args[0].str()}")
            else:
                if topic.spec is not None and topic.action in (PlanAction.CREATE, PlanAction.CHANGE):
                    changed[topic.name] = topic.spec.partitions
                if topic.spec is not None and topic.action is not PlanAction.CREATE:
                    settings[topic.name] = _changed_settings(topic)
                on_done(topic)
        self._await_visible(changed)
        self._await_settings({name: wanted for name, wanted in settings.items() if wanted})
        if failures:
            raise TopicError("the broker refused: " + "; ".join(failures))

    def _require_rights(self, names: Iterable[str]) -> None:
        """Check that topics which the cluster does not list are missing, and not hidden by ACLs."""
        require_topic_rights(self._admin, names, self._brokers.brokers, self._timeout)

    def actual(self) -> list[ActualTopic]:
        """Return every topic of the cluster, without internal ones, by name.

        Raises:
            AuthenticationError: no topic is listed, and this user may not describe those of the catalogue.
            BrokerError: the request to the cluster failed.
        """
        metadata = self._metadata()
        names = sorted(name for name in metadata.topics if not name.startswith("__"))
        if not names:
            self._require_rights(spec.name for spec in market_topics())
        return self._describe(metadata, names)

    def require(self, names: Sequence[str]) -> None:
        """Check that topics exist.

        Raises:
            TopicError: a topic does not exist; the message suggests similar names.
            BrokerError: the request to the cluster failed.
        """
        there = self._metadata().topics
        self._require_rights(name for name in names if name not in there)
        for name in names:
            if name not in there:
                raise TopicError(no_such_topic(name, there, self._brokers.brokers))

    def delete(self, names: Sequence[str]) -> None:
        """Delete topics by their full names.

        Raises:
            TopicError: a topic does not exist, so none is deleted, or the broker refused a deletion.
        """
        self.require(names)
        for name, future in self._admin.delete_topics(list(names), operation_timeout=self._timeout).items():
            try:
                future.result()
            except KafkaException as error:
                raise TopicError(f"cannot delete {name}: {error.args[0].str()}") from None

    def _apply_one(self, topic: TopicPlan) -> None:
        if topic.spec is None:
            return
        if topic.action is PlanAction.CREATE:
            self._create(topic.spec)
            return
        settings = _changed_settings(topic)
        if len(settings) < len(topic.changes):
            growth = NewPartitions(topic.name, topic.spec.partitions)
            self._admin.create_partitions([growth])[topic.name].result(self._timeout)
        if settings:
            entries = [
                ConfigEntry(setting, value, incremental_operation=AlterConfigOpType.SET)
                for setting, value in settings.items()
            ]
            resource = ConfigResource(ResourceType.TOPIC, topic.name, incremental_configs=entries)
            self._admin.incremental_alter_configs([resource])[resource].result(self._timeout)

    def _create(self, spec: TopicSpec) -> None:
        new = NewTopic(
            spec.name,
            num_partitions=spec.partitions,
            replication_factor=spec.replication_factor,
            config=spec.config(),
        )
        try:
            self._admin.create_topics([new], operation_timeout=self._timeout)[spec.name].result(
                self._timeout * 2
            )
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise

    def _await_visible(self, partitions: Mapping[str, int]) -> None:
        wait_s = max(self._timeout, _VISIBLE_S)
        deadline = time.monotonic() + wait_s
        while missing := _not_shown(self._metadata(), partitions):
            if time.monotonic() > deadline:
                raise TopicError(f"applied, but the cluster does not list it after {wait_s:g} s: {missing}")
            time.sleep(_LOOK_AGAIN_S)

    def _await_settings(self, wanted: Mapping[str, Mapping[str, str | None]]) -> None:
        """Wait until the cluster reports changed settings: a node applies them after it has accepted them."""
        deadline = time.monotonic() + self._timeout
        left = dict(wanted)
        while left:
            shown = {topic.name: topic.config for topic in self._describe(self._metadata(), list(left))}
            left = {
                name: settings
                for name, settings in left.items()
                if any(shown.get(name, {}).get(key) != value for key, value in settings.items())
            }
            if left and time.monotonic() > deadline:
                log.warning("the cluster accepted changes that it does not report: %s", left)
                return
            if left:
                time.sleep(_LOOK_AGAIN_S)

    def _metadata(self) -> ClusterMetadata:
        return translate_errors(
            lambda: self._admin.list_topics(timeout=self._timeout),
            "asking for the topics",
            self._brokers.brokers,
        )

    def _describe(self, metadata: ClusterMetadata, names: Sequence[str]) -> list[ActualTopic]:
        present = [name for name in names if name in metadata.topics]
        deadline = time.monotonic() + self._timeout
        found: dict[str, ActualTopic] = {}
        while missing := [name for name in present if name not in found]:
            found |= self._described(metadata, missing, is_last=time.monotonic() > deadline)
            if len(found) < len(present):
                # The node does not have the metadata of a new topic yet, or a topic was just deleted.
                time.sleep(_LOOK_AGAIN_S)
                metadata = self._metadata()
                present = [name for name in present if name in metadata.topics]
        return [found[name] for name in present]

    def _described(
        self, metadata: ClusterMetadata, names: Sequence[str], *, is_last: bool
    ) -> dict[str, ActualTopic]:
        """Return the topics that a node describes. In the last round a missing topic is an error."""
        resources = [ConfigResource(ResourceType.TOPIC, name) for name in names]
        found = {}
        for resource, future in self._admin.describe_configs(
            resources, request_timeout=self._timeout
        ).items():
            try:
                found[resource.name] = _actual(metadata, resource.name, future.result())
            except KafkaException as error:
                if error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART and not is_last:
                    continue
                raise broker_error(
                    error.args[0], f"reading the settings of {resource.name}", self._brokers.brokers
                ) from None
        return found

    def _silent_keys(self, topics: Iterable[ActualTopic]) -> frozenset[str]:
        # Redpanda is detected by the settings it reports, not by configuration that may be wrong.
        redpanda = self._brokers.admin_url is not None or any(
            name.startswith(_REDPANDA_ONLY) for topic in topics for name in topic.config
        )
        return REDPANDA_SILENT_KEYS | IGNORED_BY_REDPANDA if redpanda else frozenset()


def _changed_settings(topic: TopicPlan) -> dict[str, str | None]:
    return {change.setting: change.wanted for change in topic.changes if change.setting != "partitions"}


def _not_shown(metadata: ClusterMetadata, partitions: Mapping[str, int]) -> list[str]:
    return sorted(
        name
        for name, count in partitions.items()
        if name not in metadata.topics or len(metadata.topics[name].partitions) < count
    )


def _actual(metadata: ClusterMetadata, name: str, entries: dict[str, ConfigEntry]) -> ActualTopic:
    partitions = metadata.topics[name].partitions
    return ActualTopic(
        name=name,
        partitions=len(partitions),
        replication_factor=max((len(part.replicas) for part in partitions.values()), default=0),
        config={key: str(entry.value) for key, entry in entries.items() if entry.value is not None},
        overridden=frozenset(
            key
            for key, entry in entries.items()
            if ConfigSource(entry.source) is ConfigSource.DYNAMIC_TOPIC_CONFIG
            and not key.startswith(_REDPANDA_ONLY)
        ),
    )
