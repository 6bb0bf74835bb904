"""Share the client and the committed offsets of the consumer tests."""

from tests.consumer.conftest import client, committed

__all__ = ["client", "committed"]
