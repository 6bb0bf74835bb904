"""Wait until a broker acknowledges an idempotent produce, and diagnose why a node exited."""

from __future__ import annotations

import logging
import re
import shutil
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import KafkaError, KafkaException, Message, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from coinstream.errors import LocalBrokerError
from coinstream.kafka import log as librdkafka_log
from coinstream.local_broker.properties import NodePlan
from coinstream.settings import KafkaConfig

_TAIL_BYTES = 200_000

_FULL_BYTES = 1_000_000
"""Free bytes below which a disk counts as full."""


@dataclass(frozen=True, slots=True)
class _Rule:
    pattern: str
    reason: str
    """`{data}` stands for the data folder, `{addresses}` for the node's listeners."""

    def told(self, plan: NodePlan) -> str:
        """Return the reason with the paths and addresses of a node."""
        addresses = ", ".join(plan.address(name) for name in plan.ports)
        return self.reason.format(data=plan.data, addresses=addresses)


_NO_SPACE = _Rule(
    r"No space left on device|Disk quota exceeded|File too large",
    "no space is left for {data}: make room, or set COINSTREAM_HOME to a larger disk",
)

_RULES = (
    _NO_SPACE,
    _Rule(
        r"Address already in use|BindException|Socket server failed to bind",
        "one of the ports {addresses} is taken: stop its owner, or choose another port",
    ),
    _Rule(
        r"Failed to acquire lock on file|OverlappingFileLockException",
        "another Kafka uses {data}: stop it first",
    ),
    _Rule(
        r"OutOfMemoryError|Could not reserve enough space|insufficient memory",
        "Java ran out of memory: give it a larger heap, or free memory",
    ),
    _Rule(
        r"Permission denied|AccessDeniedException|Read-only file system",
        "{data} cannot be written: give this user the right, or set COINSTREAM_HOME to another folder",
    ),
    _Rule(
        r"CorruptRecordException|InconsistentClusterIdException|meta\.properties|LogDirNotFound"
        r"|KafkaStorageException|CorruptSnapshot|checkpoint|is corrupt|Invalid magic|Malformed"
        r"|Error while loading log dir|JsonParseException|com\.fasterxml\.jackson",
        "{data} is corrupt: move it away to start empty, or restore it from a copy",
    ),
    _Rule(
        r"ConfigException|Invalid value .* for configuration",
        "a server property is not accepted: see the first error of the log",
    ),
)


def why_it_died(plan: NodePlan) -> str:
    """Return the likely reason of an exit with advice, or the last error of the log."""
    # A full disk may have prevented the log entry.
    if plan.folder.is_dir() and shutil.disk_usage(plan.folder).free < _FULL_BYTES:
        return _NO_SPACE.told(plan)
    return reason_in(_tail(plan.log) + _tail(plan.output), plan)


def reason_in(text: str, plan: NodePlan) -> str:
    """Return the likely reason from the output of one of Kafka's programs for this node."""
    for rule in _RULES:
        if re.search(rule.pattern, text):
            return rule.told(plan)
    return _last_error(text)


def _last_error(text: str) -> str:
    lines = (line for line in text.splitlines() if not line.lstrip().startswith("at "))
    errors = [line for line in lines if re.search(r" (ERROR|FATAL) |[Ee]rror:|Exception", line)]
    return f"its last error is `{errors[-1].strip()[:300]}`" if errors else "it left no error in its log"


def _tail(path: Path) -> str:
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
        return file.read().decode("utf-8", errors="replace")


READY_TOPIC = "__coinstream_ready"
"""Topic of the readiness check with one partition and one record per start, kept for an hour."""

_RETRY_S = 0.05
_REQUEST_S = 5.0
_log = logging.getLogger(__name__)

DeathCheck = Callable[[], None]
"""Function that raises `LocalBrokerError` if a node has exited."""


def wait_until_ready(addresses: Sequence[str], deadline_s: float, check_alive: DeathCheck, log: str) -> None:
    """Wait until all nodes have joined and an idempotent produce was acknowledged by all replicas.

    Args:
        addresses: `host:port` of each node.
        deadline_s: timeout in seconds.
        check_alive: called while waiting; raises if a node has exited.
        log: path of the logs for the error message.

    Raises:
        LocalBrokerError: a node exited, or the timeout passed.
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
