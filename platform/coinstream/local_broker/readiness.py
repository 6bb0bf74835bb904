"""A broker is ready when an idempotent produce to it has succeeded, not when its port is open."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable, Sequence

from confluent_kafka import KafkaError, KafkaException, Message, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from coinstream.errors import LocalBrokerError
from coinstream.kafka import log as librdkafka_log
from coinstream.settings import KafkaConfig

READY_TOPIC = "__coinstream_ready"
"""Internal topic for the readiness check: one partition, one small record a start, kept for an hour."""

_RETRY_S = 0.05
_REQUEST_S = 5.0
_log = logging.getLogger(__name__)

DeathCheck = Callable[[], None]
"""Raises `LocalBrokerError` if a node has died."""


def wait_until_ready(addresses: Sequence[str], deadline_s: float, check_alive: DeathCheck, log: str) -> None:
    """Wait until all nodes take part and an idempotent produce has been acknowledged by all replicas.

    Args:
        addresses: `host:port` of each node.
        deadline_s: how long all of it may take, in seconds.
        check_alive: called while waiting, so that a death ends the wait.
        log: where the logs are, for the message.

    Raises:
        LocalBrokerError: a node died, or the deadline passed.
    """
    wait = _Wait(time.monotonic() + deadline_s, deadline_s, check_alive, log)
    for address in addresses:
        wait.until(lambda address=address: _port_is_open(address), f"{address} opens")  # type: ignore[misc]
    config = _client_config(addresses)
    admin = AdminClient(config, logger=librdkafka_log)
    wait.until(lambda: _knows_all(admin, len(addresses)), f"all {len(addresses)} nodes have joined")
    wait.until(lambda: _create_topic(admin, len(addresses)), f"the topic {READY_TOPIC} exists")
    producer = Producer({**config, "enable.idempotence": True, "linger.ms": 0}, logger=librdkafka_log)
    wait.until(lambda: _produce(producer), "a message is acknowledged")


class _Wait:
    def __init__(self, deadline: float, allowed_s: float, check_alive: DeathCheck, log: str) -> None:
        self._deadline = deadline
        self._allowed_s = allowed_s
        self._check_alive = check_alive
        self._log = log

    def until(self, condition: Callable[[], bool], what: str) -> None:
        while not condition():
            self._check_alive()
            if time.monotonic() > self._deadline:
                raise LocalBrokerError(
                    f"the local broker is not ready after {self._allowed_s:g} s: still waiting until {what}; "
                    f"its log is {self._log}"
                )
            time.sleep(_RETRY_S)


def _client_config(addresses: Sequence[str]) -> KafkaConfig:
    return {
        "bootstrap.servers": ",".join(addresses),
        "reconnect.backoff.ms": 50,
        "reconnect.backoff.max.ms": 250,
        "topic.metadata.refresh.fast.interval.ms": 50,
        "message.timeout.ms": int(_REQUEST_S * 1000),
    }


def _port_is_open(address: str) -> bool:
    host, port = address.rsplit(":", 1)
    try:
        with socket.create_connection((host, int(port)), timeout=1):
            return True
    except OSError:
        return False


def _knows_all(admin: AdminClient, nodes: int) -> bool:
    try:
        return len(admin.list_topics(timeout=_REQUEST_S).brokers) >= nodes
    except KafkaException as error:
        _log.debug("not ready: %s", error)
        return False


def _create_topic(admin: AdminClient, nodes: int) -> bool:
    topic = NewTopic(
        READY_TOPIC, num_partitions=1, replication_factor=nodes, config={"retention.ms": "3600000"}
    )
    try:
        admin.create_topics([topic], operation_timeout=_REQUEST_S)[READY_TOPIC].result(_REQUEST_S)
    except KafkaException as error:
        _log.debug("not ready: %s", error)
        return bool(error.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS)
    except TimeoutError:
        return False
    return True


def _produce(producer: Producer) -> bool:
    outcomes: list[KafkaError | None] = []

    def delivered(error: KafkaError | None, _message: Message) -> None:
        outcomes.append(error)

    producer.produce(READY_TOPIC, value=b"ready", on_delivery=delivered)
    producer.flush(_REQUEST_S)
    if outcomes and outcomes[0] is not None:
        _log.debug("not ready: %s", outcomes[0])
    return outcomes == [None]
