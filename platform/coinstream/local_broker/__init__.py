"""Run Apache Kafka on this machine, without Docker and without a system Java.

Commands use the configured broker, or else the local broker of this machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from coinstream.errors import BrokerError
from coinstream.local_broker.broker import DEFAULT_PORT, LocalBroker
from coinstream.local_broker.node import Node
from coinstream.local_broker.properties import Listener
from coinstream.local_broker.status import running_broker
from coinstream.settings import BrokerSettings, HomeSettings

__all__ = [
    "DEFAULT_PORT",
    "Listener",
    "LocalBroker",
    "Node",
    "broker_home",
    "find_broker",
    "open_broker",
    "require_broker",
]


def broker_home(home: HomeSettings) -> Path:
    """Return the folder of the local broker's data, logs and state."""
    return home.home / "broker"


@contextmanager
def open_broker(brokers: BrokerSettings, home: HomeSettings) -> Iterator[BrokerSettings]:
    """Yield the configured broker, or else the local one, which is started for the block if necessary.

    Raises:
        LocalBrokerError: the local broker cannot be started; the message contains the reason and the log.
    """
    found = find_broker(brokers, home)
    if found is not None:
        yield found
        return
    with LocalBroker(broker_home(home), port=home.broker_port) as local:
        yield _at(brokers, local.bootstrap)


def require_broker(brokers: BrokerSettings, home: HomeSettings) -> BrokerSettings:
    """Return the configured broker, or else the running local one, without starting it.

    Raises:
        BrokerError: no broker is configured and the local one is not running.
    """
    found = find_broker(brokers, home)
    if found is None:
        raise BrokerError(
            f"no broker is configured and the local one of {broker_home(home)} does not run: "
            "set REDPANDA_BROKERS, or start it with `coinstream broker start` or `coinstream up`"
        )
    return found


def find_broker(brokers: BrokerSettings, home: HomeSettings) -> BrokerSettings | None:
    """Return the configured broker, or else the local one if it is running, or else None."""
    if brokers.brokers:
        return brokers
    running = running_broker(broker_home(home))
    return _at(brokers, running.bootstrap) if running is not None and running.ready else None


def _at(brokers: BrokerSettings, bootstrap: str) -> BrokerSettings:
    return brokers.model_copy(update={"brokers": bootstrap})
