"""The thin layer over confluent-kafka: configurations, and its errors in our words."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final, TypeVar

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from coinstream.errors import (
    AuthenticationError,
    BrokerError,
    CoinstreamError,
    MessageTooLargeError,
    ProduceError,
)
from coinstream.settings import BrokerSettings, KafkaConfig

T = TypeVar("T")

log = logging.getLogger("coinstream.kafka")
"""Receives librdkafka's own log lines, so that they never spill to standard error."""

# Without a handler Python's last resort prints warnings there after all.
log.addHandler(logging.NullHandler())

AUTHENTICATION: Final = {
    KafkaError._AUTHENTICATION,
    KafkaError._SSL,
    KafkaError.SASL_AUTHENTICATION_FAILED,
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
}
_TOO_LARGE: Final = {KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE}


def base_config(brokers: BrokerSettings, client_id: str = "coinstream") -> KafkaConfig:
    """What every librdkafka client of the platform is given: connection, security, logging."""
    return {**brokers.kafka_config(), "client.id": client_id, "logger": log}


def admin_client(brokers: BrokerSettings) -> AdminClient:
    """An admin client whose requests time out as the settings say."""
    return AdminClient(
        {
            **base_config(brokers, "coinstream-admin"),
            "socket.timeout.ms": brokers.request_timeout_ms,
            "allow.auto.create.topics": False,
        }
    )


def error_name(error: KafkaError) -> str:
    """The short name of a librdkafka error, as metrics label it: `MSG_SIZE_TOO_LARGE`."""
    return str(error.name()).lstrip("_")


def broker_error(error: KafkaError, doing: str, brokers: str) -> CoinstreamError:
    """What went wrong while `doing` something with the cluster, with what to do about it."""
    said = f"{doing} at {brokers}: {error.str()} ({error_name(error)})"
    if error.code() in AUTHENTICATION:
        return AuthenticationError(
            f"{said}. Check REDPANDA_SASL_*, REDPANDA_SSL_* and the access rules of this user."
        )
    return BrokerError(f"{said}. Is the broker running, and is REDPANDA_BROKERS right?")


def produce_error(error: KafkaError, topic: str, key: bytes | None) -> ProduceError:
    """Why a message of this topic and key was not acknowledged."""
    said = f"message for {topic} (key {key!r}) was not acknowledged: {error.str()} ({error_name(error)})"
    kind = MessageTooLargeError if error.code() in _TOO_LARGE else ProduceError
    return kind(said, topic=topic, key=key, error_type=error_name(error))


def raise_on_kafka(call: Callable[[], T], doing: str, brokers: str) -> T:
    """Run a call of confluent-kafka; its exception becomes ours.

    Raises:
        BrokerError, AuthenticationError: as `broker_error` sorts them.
    """
    try:
        return call()
    except KafkaException as error:
        raise broker_error(error.args[0], doing, brokers) from None
