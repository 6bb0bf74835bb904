"""Topics that some brokers do not list yet, because they learn of them late or have just started."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from coinstream.errors import TopicError
from coinstream.producer import topic_cache
from coinstream.producer.topic_cache import TopicCache
from coinstream.settings import BrokerSettings
from tests.conftest import TopicFactory
from tests.support import unique, wait_until


def test_a_topic_that_is_listed_late_is_no_error(broker_settings: BrokerSettings) -> None:
    name = unique("late")
    admin = AdminClient(broker_settings.kafka_config())
    with closing(TopicCache(broker_settings, lambda: None)) as cache, ThreadPoolExecutor() as threads:
        cache.refresh()
        required = threads.submit(cache.require, name)
        admin.create_topics([NewTopic(name, 2)])[name].result(30)
        assert required.result(30) == 2


def test_a_listing_without_a_known_topic_is_doubted(
    broker_settings: BrokerSettings, topic: TopicFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = topic("doubted", partitions=3)
    admin = AdminClient(broker_settings.kafka_config())
    changes: list[None] = []
    with closing(TopicCache(broker_settings, lambda: changes.append(None))) as cache:
        assert cache.require(name) == 3
        admin.delete_topics([name])[name].result(30)
        wait_until(lambda: name not in admin.list_topics(timeout=10).topics, what="the topic is deleted")
        monkeypatch.setattr(topic_cache, "PROPAGATION_S", 3600)
        cache.refresh()
        assert cache.require(name) == 3
        monkeypatch.setattr(topic_cache, "PROPAGATION_S", 0)
        cache.refresh()
        with pytest.raises(TopicError, match=name):
            cache.require(name)
    assert len(changes) > 1, "routes are computed again"
