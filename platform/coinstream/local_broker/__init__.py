"""Run Apache Kafka on this machine, without Docker and without a system Java."""

from coinstream.local_broker.broker import DEFAULT_PORT, LocalBroker
from coinstream.local_broker.node import Node
from coinstream.local_broker.properties import Listener

__all__ = ["DEFAULT_PORT", "Listener", "LocalBroker", "Node"]
