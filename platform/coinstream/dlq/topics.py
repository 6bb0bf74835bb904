"""Name and create dead-letter topics."""

from __future__ import annotations

import logging
from typing import Final

from confluent_kafka import KafkaException

from coinstream.errors import TopicError
from coinstream.kafka import admin_client, broker_error
from coinstream.settings import BrokerSettings
from coinstream.topics.apply import Provisioner
from coinstream.topics.catalogue import (
    CORE_TOPICS,
    DEAD_LETTER_SUFFIX,
    TopicSpec,
    dead_letter_topic,
    exchange_topic,
)

log = logging.getLogger("coinstream.dlq")

_FOREIGN_TOPIC: Final = CORE_TOPICS[0]
"""Spec whose retention applies to dead letters of topics that are not in the catalogue."""
_DAY_MS: Final = 86_400_000
REPLAY_LOG: Final = TopicSpec(
    name="coinstream-dlq-replays",
    partitions=1,
    retention_ms=400 * _DAY_MS,
    retention_bytes=-1,
    segment_ms=7 * _DAY_MS,
    segment_bytes=16 * 1_048_576,
)
"""Topic of the replay log, with a longer retention than any dead-letter topic."""


def dlq_topic(topic: str) -> str:
    """Return the name of the dead-letter topic of a topic."""
    return topic + DEAD_LETTER_SUFFIX


def topics_with_dead_letters(brokers: BrokerSettings) -> list[str]:
    """Return the topics that have a dead-letter topic.

    Raises:
        BrokerError: the cluster does not answer.
    """
    admin = admin_client(brokers)
    try:
        found = admin.list_topics(timeout=brokers.request_timeout_ms / 1000).topics
    except KafkaException as failed:
        raise broker_error(failed.args[0], "listing topics", brokers.brokers) from None
    return sorted(
        name.removesuffix(DEAD_LETTER_SUFFIX) for name in found if name.endswith(DEAD_LETTER_SUFFIX)
    )


def ensure_dlq_topic(topic: str, brokers: BrokerSettings) -> None:
    """Create the dead-letter topic of a topic if it does not exist.

    Raises:
        TopicError: the topic cannot be created.
        BrokerError: the cluster does not answer.
    """
    try:
        _ensure(dlq_spec(topic), brokers)
    except TopicError as error:
        raise TopicError(
            f"{topic} needs the dead-letter topic {dlq_topic(topic)}, which cannot be created: {error}. "
            "Create it with `coinstream topics apply`, or grant this user CREATE on it."
        ) from None


def ensure_replay_log(brokers: BrokerSettings) -> None:
    """Create the topic of the replay log if it does not exist.

    Raises:
        TopicError: the topic cannot be created.
        BrokerError: the cluster does not answer.
    """
    try:
        _ensure(REPLAY_LOG, brokers)
    except TopicError as error:
        raise TopicError(
            f"a replay is recorded in {REPLAY_LOG.name}, which cannot be created: {error}. "
            "Create it with one partition, or give this user the right to."
        ) from None


def dlq_spec(topic: str) -> TopicSpec:
    """Return the spec of the dead-letter topic of a topic."""
    for spec in CORE_TOPICS:
        if topic == spec.name:
            return dead_letter_topic(spec)
        if topic.startswith(spec.name + "-"):
            return dead_letter_topic(exchange_topic(spec, topic.removeprefix(spec.name + "-")))
    return dead_letter_topic(_FOREIGN_TOPIC.model_copy(update={"name": topic}))


def _ensure(spec: TopicSpec, brokers: BrokerSettings) -> None:
    provisioner = Provisioner(brokers)
    if any(existing.name == spec.name for existing in provisioner.actual()):
        return
    provisioner.apply(provisioner.plan([spec]))
    log.info("created %s", spec.name)
