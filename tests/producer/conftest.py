"""A broker that a test of sending may pause."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from coinstream.local_broker import LocalBroker
from tests.conftest import TopicFactory, topic_factory


@pytest.fixture(scope="module")
def own_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalBroker]:
    """Return a node that no other test uses."""
    with LocalBroker(tmp_path_factory.mktemp("own"), nodes=1, port=0, heap_mb=384) as local:
        yield local


@pytest.fixture(scope="module")
def own_topic(own_broker: LocalBroker) -> TopicFactory:
    """Return a function that creates topics on `own_broker`."""
    return topic_factory(own_broker.bootstrap)
