"""coinstream: crypto market data over Redpanda (the Kafka protocol)."""

__version__ = "0.1.0"
