"""Wrap confluent-kafka: client configurations, clients that report connection errors, typed errors."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, ClusterMetadata

from coinstream.errors import (
    AuthenticationError,
    BrokerError,
    CoinstreamError,
    MessageTooLargeError,
    NotAllowedError,
    ProduceError,
    SettingsError,
)
from coinstream.settings import BrokerSettings, KafkaConfig

T = TypeVar("T")

log = logging.getLogger("coinstream.kafka")
"""Logger of librdkafka, whose messages would otherwise go to standard error."""

# Without a handler, Python's last-resort handler prints warnings to standard error.
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
AUTHORIZATION: Final = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
}
"""Errors of an authenticated user without the necessary ACL."""
FETCH_QUEUE_BACKOFF_MS: Final = 20
"""Backoff of a partition's fetch when the prefetch queue is full. librdkafka's default of a second makes fast
consumers wait: with 20 ms a bare consumer on two cores went from 201,000 to 629,000 messages/s (`coinstream
bench consume`)."""
CONSUME_BATCH: Final = 500
"""Messages per call of `consume`. With 10,000 a message takes four times the processor time (3.1 us against
0.7 us): messages leave the processor's cache before they are read, and the call blocks other threads."""
_FATAL: Final = {KafkaError._FATAL, KafkaError._FENCED, KafkaError.FENCED_INSTANCE_ID}
_UNRESOLVED: Final = re.compile(r"Failed to resolve '([^']+)'")
_TOO_LARGE: Final = {KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE}


def base_config(brokers: BrokerSettings, client_id: str = "coinstream") -> KafkaConfig:
    """Return the configuration shared by all librdkafka clients: connection, security, logging."""
    return {**brokers.kafka_config(), "client.id": client_id, "logger": log}


def admin_client(brokers: BrokerSettings) -> AdminClient:
    """Return an admin client that uses the configured timeout and reports connection errors.

    Raises:
        SettingsError: a setting is invalid, for example a certificate file is missing.
    """
    _stranded.clear()
    config = {
        **base_config(brokers, "coinstream-admin"),
        "socket.timeout.ms": brokers.request_timeout_ms,
        "allow.auto.create.topics": False,
    }
    return checked(lambda: _Admin(config, brokers))


def checked(make: Callable[[], T]) -> T:
    """Create a client of confluent-kafka.

    Raises:
        SettingsError: the configuration is invalid; the message names the setting, not its value.
    """
    try:
        return make()
    except KafkaException as error:
        raise SettingsError(
            f"the broker settings cannot be used: {error.args[0].str()}. "
            "Check REDPANDA_SECURITY_PROTOCOL, REDPANDA_SASL_* and REDPANDA_SSL_*."
        ) from None


def refusal(error: KafkaError) -> KafkaError | None:
    """Return the error if it means that authentication failed, else None.

    A broker that requires a client certificate sends a TLS alert, which librdkafka reports as a broken
    connection.
    """
    if error.code() in AUTHENTICATION:
        return error
    if error.code() == KafkaError._TRANSPORT and "SSL alert" in error.str():
        return KafkaError(KafkaError._SSL, error.str())
    return None


def is_fatal(error: KafkaError) -> bool:
    """Return whether an error makes its client unusable.

    librdkafka reports a fenced member with the code `_FATAL` and `fatal()` False.
    """
    return error.fatal() or error.code() in _FATAL


_stranded: Final[list[AdminClient]] = []
"""Clients released in a librdkafka thread; the next call of `admin_client` frees them."""


class ConnectionErrors:
    """Connection errors of a client: failed authentication, and host names that do not resolve.

    librdkafka raises only "transport failure" or "timed out", and passes the reason to `error_cb`. This
    object keeps no reference to the client, which would create a reference cycle.
    """

    def __init__(self, brokers: BrokerSettings) -> None:
        self._brokers = brokers
        self._refused: KafkaError | None = None
        self._unresolved: dict[str, KafkaError] = {}

    def __call__(self, error: KafkaError) -> None:
        """Record an error from librdkafka."""
        self._refused = refusal(error) or self._refused
        if error.code() == KafkaError._RESOLVE:
            found = _UNRESOLVED.search(error.str())
            self._unresolved[found[1] if found else error.str()] = error

    def reset(self) -> None:
        """Clear the recorded errors."""
        self._refused = None
        self._unresolved.clear()

    def reason(self) -> KafkaError | None:
        """Return why no broker can be used, or None if that is unknown or a broker may still answer."""
        if self._refused is not None:
            return self._with_certificate(self._refused)
        if len(self._unresolved) >= len(self._brokers.brokers.split(",")):
            hosts = ", ".join(sorted(self._unresolved))
            return KafkaError(KafkaError._RESOLVE, f"the host name of {hosts} does not resolve")
        return None

    def _with_certificate(self, error: KafkaError) -> KafkaError:
        from coinstream.kafka.security import why_not_trusted

        reason = why_not_trusted(self._brokers) if error.code() == KafkaError._SSL else None
        return KafkaError(error.code(), reason) if reason else error


def _list_topics(
    ask: Callable[[float], ClusterMetadata],
    serve: Callable[[], object],
    errors: ConnectionErrors,
    timeout_s: float,
) -> ClusterMetadata:
    """Request the topics until the timeout, or until a connection error is known for all brokers."""
    deadline = time.monotonic() + timeout_s
    attempt_s = 0.5
    while True:
        left = max(deadline - time.monotonic(), 0.01)
        errors.reset()
        try:
            return ask(min(attempt_s, left))
        except KafkaException:
            serve()
            reason = errors.reason()
            if reason is not None:
                raise KafkaException(reason) from None
            if attempt_s >= left:
                raise
        attempt_s *= 4


class _Admin(AdminClient):
    """Admin client that reports connection errors."""

    def __init__(self, config: KafkaConfig, brokers: BrokerSettings) -> None:
        self._timeout_s = brokers.request_timeout_ms / 1000
        self._errors = ConnectionErrors(brokers)
        own: dict[str, Any] = {**config, "error_cb": self._errors}
        super().__init__(own)

    def __del__(self) -> None:
        """Keep a client that is released in a thread of librdkafka, until the next call of `admin_client`.

        librdkafka aborts the process when a client is destroyed in one of its threads. Responses to admin
        requests arrive in such a thread, where Python's garbage collector may free an exception's frames
        with a client in them. Python gives the name `Dummy-` to threads that it did not start.
        """
        if threading.current_thread().name.startswith("Dummy-"):
            _stranded.append(self)

    def list_topics(self, topic: str | None = None, timeout: float = -1, **_: Any) -> ClusterMetadata:
        """List topics as `AdminClient` does, but fail with the reason as soon as the broker refuses."""
        limit = timeout if timeout >= 0 else self._timeout_s
        listing = super().list_topics
        return _list_topics(
            lambda wait: listing(topic, timeout=wait), lambda: self.poll(0), self._errors, limit
        )


class BrokerConsumer(Consumer):
    """Consumer without a group that reports connection errors."""

    def __init__(self, config: KafkaConfig, brokers: BrokerSettings) -> None:
        self._timeout_s = brokers.request_timeout_ms / 1000
        self._errors = ConnectionErrors(brokers)
        own: dict[str, Any] = {**config, "error_cb": self._errors}
        super().__init__(own)

    def failure(self) -> KafkaError | None:
        """Return the reason why no broker can be used, or None if it is unknown."""
        return self._errors.reason()

    def list_topics(self, topic: str | None = None, timeout: float = -1, **_: Any) -> ClusterMetadata:
        """List topics as `Consumer` does, but fail with the reason as soon as the broker refuses."""
        limit = timeout if timeout >= 0 else self._timeout_s
        listing = super().list_topics
        return _list_topics(lambda wait: listing(topic, timeout=wait), self._serve, self._errors, limit)

    def _serve(self) -> None:
        """Run the error callback. With partitions assigned, a poll might take a record instead."""
        if not self.assignment():
            self.poll(0)


def error_name(error: KafkaError) -> str:
    """Return the name of a librdkafka error as used in metrics labels: `MSG_SIZE_TOO_LARGE`."""
    return str(error.name()).lstrip("_")


def broker_error(error: KafkaError, doing: str, brokers: str) -> CoinstreamError:
    """Return the exception for a failed request to the cluster, with advice on what to do."""
    said = f"{doing} at {brokers}: {error.str()} ({error_name(error)})"
    if error.code() in AUTHORIZATION:
        return AuthenticationError(f"{said}. Ask for an access rule (ACL) that allows it to this user.")
    if error.code() in AUTHENTICATION:
        return AuthenticationError(
            f"{said}. Check REDPANDA_SASL_*, REDPANDA_OAUTH_* and REDPANDA_SSL_*, "
            "and what the broker's listener asks for."
        )
    if error.code() == KafkaError._RESOLVE:
        return BrokerError(f"{said}. Check REDPANDA_BROKERS, and the name service of this machine.")
    return BrokerError(
        f"{said}. Is the broker running, is REDPANDA_BROKERS right, "
        "and is REDPANDA_SECURITY_PROTOCOL what its listener speaks?"
    )


def produce_error(error: KafkaError, topic: str, key: bytes | None) -> ProduceError:
    """Return the error of a message that was not acknowledged."""
    said = f"message for {topic} (key {key!r}) was not acknowledged: {error.str()} ({error_name(error)})"
    kind = MessageTooLargeError if error.code() in _TOO_LARGE else ProduceError
    if error.code() in AUTHORIZATION:
        kind = NotAllowedError
        said += f". Ask for an access rule (ACL) that allows this user to write to {topic}."
    return kind(said, topic=topic, key=key, error_type=error_name(error))


def translate_errors(call: Callable[[], T], doing: str, brokers: str) -> T:
    """Run a call of confluent-kafka and translate its exceptions.

    Raises:
        BrokerError, AuthenticationError: see `broker_error`.
    """
    try:
        return call()
    except KafkaException as error:
        raise broker_error(error.args[0], doing, brokers) from None
