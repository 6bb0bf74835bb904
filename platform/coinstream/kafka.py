"""Wrap confluent-kafka: client configurations, clients that say why they cannot connect, typed errors."""

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
AUTHORIZATION: Final = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
}
"""The user is known, but an access rule (ACL) is missing."""
FETCH_QUEUE_BACKOFF_MS: Final = 20
"""How long a partition rests when as much is fetched ahead as may be. librdkafka's own second leaves a fast
reader waiting: a bare consumer on two cores went from 201,000 messages/s to 629,000 (`coinstream bench
consume`)."""
CONSUME_BATCH: Final = 500
"""Messages asked of librdkafka at a time. Of 10,000 each costs four times the processor time (3.1 us against
0.7): they are out of its cache before they are looked at, and no other thread runs while they are made."""
_FATAL: Final = {KafkaError._FATAL, KafkaError._FENCED, KafkaError.FENCED_INSTANCE_ID}
_UNRESOLVED: Final = re.compile(r"Failed to resolve '([^']+)'")
_TOO_LARGE: Final = {KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE}


def base_config(brokers: BrokerSettings, client_id: str = "coinstream") -> KafkaConfig:
    """Return what every librdkafka client of the platform gets: connection, security, logging."""
    return {**brokers.kafka_config(), "client.id": client_id, "logger": log}


def admin_client(brokers: BrokerSettings) -> AdminClient:
    """Return an admin client that times out as the settings say, and says why it cannot connect.

    Raises:
        SettingsError: the settings cannot be used, e.g. a certificate file is missing.
    """
    _stranded.clear()
    config = {
        **base_config(brokers, "coinstream-admin"),
        "socket.timeout.ms": brokers.request_timeout_ms,
        "allow.auto.create.topics": False,
    }
    return checked(lambda: _Admin(config, brokers))


def checked(make: Callable[[], T]) -> T:
    """Make a client of confluent-kafka; a configuration that it refuses becomes a clear error.

    Raises:
        SettingsError: names the setting in librdkafka's words, never its value.
    """
    try:
        return make()
    except KafkaException as error:
        raise SettingsError(
            f"the broker settings cannot be used: {error.args[0].str()}. "
            "Check REDPANDA_SECURITY_PROTOCOL, REDPANDA_SASL_* and REDPANDA_SSL_*."
        ) from None


def refusal(error: KafkaError) -> KafkaError | None:
    """Return the error if it says that the broker does not let this client in, else None.

    A broker that asks for a client certificate says so in an alert, which librdkafka reports as a
    broken connection.
    """
    if error.code() in AUTHENTICATION:
        return error
    if error.code() == KafkaError._TRANSPORT and "SSL alert" in error.str():
        return KafkaError(KafkaError._SSL, error.str())
    return None


def is_fatal(error: KafkaError) -> bool:
    """Return whether a client can no longer be used.

    librdkafka reports a fenced member with the code `_FATAL` and `fatal()` False.
    """
    return error.fatal() or error.code() in _FATAL


_stranded: Final[list[AdminClient]] = []
"""Clients that were released in a thread of librdkafka's; the next call of `admin_client` frees them."""


class ConnectionErrors:
    """Collects why a client cannot connect: refused, or host names that do not resolve.

    librdkafka tells the caller "transport failure" or "timed out", and the reason only to `error_cb`.
    It holds no reference to the client, which would then refer to itself.
    """

    def __init__(self, brokers: BrokerSettings) -> None:
        self._brokers = brokers
        self._refused: KafkaError | None = None
        self._unresolved: dict[str, KafkaError] = {}

    def __call__(self, error: KafkaError) -> None:
        """Take an error from librdkafka."""
        self._refused = refusal(error) or self._refused
        if error.code() == KafkaError._RESOLVE:
            found = _UNRESOLVED.search(error.str())
            self._unresolved[found[1] if found else error.str()] = error

    def reset(self) -> None:
        """Forget what was collected."""
        self._refused = None
        self._unresolved.clear()

    def reason(self) -> KafkaError | None:
        """Return why no broker can be used; None if that is not known, or one of them may still answer."""
        if self._refused is not None:
            return self._with_certificate(self._refused)
        if len(self._unresolved) >= len(self._brokers.brokers.split(",")):
            hosts = ", ".join(sorted(self._unresolved))
            return KafkaError(KafkaError._RESOLVE, f"the host name of {hosts} does not resolve")
        return None

    def _with_certificate(self, error: KafkaError) -> KafkaError:
        from coinstream.certificates import why_not_trusted

        reason = why_not_trusted(self._brokers) if error.code() == KafkaError._SSL else None
        return KafkaError(error.code(), reason) if reason else error


def _list_topics(
    ask: Callable[[float], ClusterMetadata],
    serve: Callable[[], object],
    errors: ConnectionErrors,
    timeout_s: float,
) -> ClusterMetadata:
    """Ask for topics until the time is over, or the reason is known why no broker will answer."""
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
    """An admin client that says why it cannot connect."""

    def __init__(self, config: KafkaConfig, brokers: BrokerSettings) -> None:
        self._timeout_s = brokers.request_timeout_ms / 1000
        self._errors = ConnectionErrors(brokers)
        own: dict[str, Any] = {**config, "error_cb": self._errors}
        super().__init__(own)

    def __del__(self) -> None:
        # librdkafka aborts the process when a client is destroyed in a thread of its own. Answers to admin
        # requests come in such a thread, and Python may collect garbage there: the frames of an exception,
        # with a client in them. Python names threads that it has not started so.
        if threading.current_thread().name.startswith("Dummy-"):
            _stranded.append(self)

    def list_topics(self, topic: str | None = None, timeout: float = -1, **_: Any) -> ClusterMetadata:
        """As of `AdminClient`, but fails as soon as the broker refuses, with its reason."""
        limit = timeout if timeout >= 0 else self._timeout_s
        listing = super().list_topics
        return _list_topics(
            lambda wait: listing(topic, timeout=wait), lambda: self.poll(0), self._errors, limit
        )


class BrokerConsumer(Consumer):
    """A consumer that says why it cannot connect. It is for readers that join no group."""

    def __init__(self, config: KafkaConfig, brokers: BrokerSettings) -> None:
        self._timeout_s = brokers.request_timeout_ms / 1000
        self._errors = ConnectionErrors(brokers)
        own: dict[str, Any] = {**config, "error_cb": self._errors}
        super().__init__(own)

    def failure(self) -> KafkaError | None:
        """Return why the brokers cannot be used, as far as is known."""
        return self._errors.reason()

    def list_topics(self, topic: str | None = None, timeout: float = -1, **_: Any) -> ClusterMetadata:
        """As of `Consumer`, but fails as soon as the broker refuses, with its reason."""
        limit = timeout if timeout >= 0 else self._timeout_s
        listing = super().list_topics
        return _list_topics(lambda wait: listing(topic, timeout=wait), self._serve, self._errors, limit)

    def _serve(self) -> None:
        """Run the error callback. With partitions assigned, a poll might take a record instead."""
        if not self.assignment():
            self.poll(0)


def error_name(error: KafkaError) -> str:
    """Return the short name of a librdkafka error, as metrics label it: `MSG_SIZE_TOO_LARGE`."""
    return str(error.name()).lstrip("_")


def broker_error(error: KafkaError, doing: str, brokers: str) -> CoinstreamError:
    """Return the error of `doing` something with the cluster, with what to do about it."""
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
    """Run a call of confluent-kafka and translate its exception.

    Raises:
        BrokerError, AuthenticationError: as `broker_error` sorts them.
    """
    try:
        return call()
    except KafkaException as error:
        raise broker_error(error.args[0], doing, brokers) from None
