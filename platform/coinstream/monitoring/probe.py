"""Sends a message to the health topic and times its acknowledgement."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import Final

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from coinstream.errors import BrokerError, CoinstreamError
from coinstream.kafka import base_config, broker_error, checked
from coinstream.monitoring.cluster import ClusterReader
from coinstream.monitoring.health import ProducerHealth, producer_health
from coinstream.settings import BrokerSettings, ProducerSettings
from coinstream.topics.apply import Provisioner
from coinstream.topics.catalogue import HEALTH, HEALTH_TOPIC


@dataclass
class _Report:
    done: threading.Event = field(default_factory=threading.Event)
    error: KafkaError | None = None

    def __call__(self, error: KafkaError | None, _: Message) -> None:
        self.error = error
        self.done.set()


class ProducerProbe:
    """A producer with the platform's settings that sends one message a check. Keep it between checks.

    The first check opens the connection with a message that is not timed, and makes the topic
    `health-check` if it is missing: neither says anything of how fast the producer is.
    """

    def __init__(
        self, brokers: BrokerSettings, settings: ProducerSettings | None = None, timeout_s: float = 5.0
    ) -> None:
        chosen = settings or ProducerSettings()
        self._brokers: Final = brokers.model_copy(
            update={"request_timeout_ms": min(brokers.request_timeout_ms, int(timeout_s * 1000))}
        )
        self._timeout_s = timeout_s
        self._cluster = ClusterReader(self._brokers)
        config = base_config(self._brokers, "coinstream-health") | {
            "acks": chosen.acks,
            "compression.type": chosen.compression,
            "linger.ms": chosen.linger_ms,
            "delivery.timeout.ms": int(timeout_s * 1000),
            "allow.auto.create.topics": False,
        }
        self._producer = checked(lambda: Producer(config))
        self._is_warm = False

    def check(self) -> ProducerHealth:
        """Send and time a message. What fails is an unhealthy producer, never an exception."""
        try:
            if not self._is_warm:
                self._prepare()
            return producer_health(self._send())
        except CoinstreamError as error:
            self._is_warm = False
            return producer_health(None, str(error))

    def close(self) -> None:
        """Let go of what is unsent."""
        self._producer.purge()
        self._producer.flush(0)

    def _prepare(self) -> None:
        if HEALTH_TOPIC not in self._cluster.metadata().topics:
            provisioner = Provisioner(self._brokers)
            provisioner.apply(provisioner.plan([HEALTH]))
        self._send()
        self._is_warm = True

    def _send(self) -> float:
        report = _Report()
        started = time.perf_counter()
        try:
            self._producer.produce(HEALTH_TOPIC, f"{time.time():.3f}".encode(), on_delivery=report)
        except (BufferError, KafkaException) as error:
            raise BrokerError(f"cannot send to {HEALTH_TOPIC}: {error}") from None
        while not report.done.is_set():
            left = self._timeout_s - (time.perf_counter() - started)
            if left <= 0:
                raise BrokerError(
                    f"no acknowledgement for {HEALTH_TOPIC} from {self._brokers.brokers} within "
                    f"{self._timeout_s:g} s. Is the broker running?"
                )
            self._producer.poll(min(left, 0.1))
        if report.error is not None:
            raise broker_error(report.error, f"sending to {HEALTH_TOPIC}", self._brokers.brokers)
        return (time.perf_counter() - started) * 1000


def check_producer(
    brokers: BrokerSettings, settings: ProducerSettings | None = None, timeout_s: float = 5.0
) -> ProducerHealth:
    """One check with a producer made for it.

    Raises:
        SettingsError: the settings cannot be used.
    """
    probe = ProducerProbe(brokers, settings, timeout_s)
    try:
        return probe.check()
    finally:
        probe.close()
