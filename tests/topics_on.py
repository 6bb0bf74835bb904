"""Topics of a test's own, with unique names, on any cluster."""

from __future__ import annotations

from collections.abc import Callable

from confluent_kafka.admin import AdminClient, NewTopic

from tests.support import unique, wait_until

TopicFactory = Callable[..., str]
"""`topic(name="t", partitions=1, replication=None, config=None)` creates a topic; gives its unique name."""

LARGE = 100
"""A topic with as many partitions makes every measurement of all groups slow: it goes with its test."""


def topic_factory(bootstrap: str, large: list[str] | None = None) -> TopicFactory:
    """Return a function that creates topics on that cluster; `large` gets the names of large ones."""
    admin = AdminClient({"bootstrap.servers": bootstrap})

    def create(
        name: str = "topic",
        partitions: int = 1,
        replication: int | None = None,
        config: dict[str, str] | None = None,
    ) -> str:
        wanted = unique(name)
        new = NewTopic(
            wanted,
            num_partitions=partitions,
            # -1: the broker's default, which is its count of nodes.
            replication_factor=replication if replication is not None else -1,
            # Kept for ever: the broker goes by a message's own time, and recordings are old.
            config={"retention.ms": "-1", **(config or {})},
        )
        admin.create_topics([new])[wanted].result(30)
        # Each node learns of a topic by itself. A new client asks the node that it is given; an older one
        # asks another node after its own was killed.
        for address in bootstrap.split(","):
            node = AdminClient({"bootstrap.servers": address})
            wait_until(
                lambda node=node: _has_leaders(node, wanted, partitions),  # type: ignore[misc]
                what=f"topic {wanted} has its leaders",
            )
        if large is not None and partitions >= LARGE:
            large.append(wanted)
        return wanted

    return create


def _has_leaders(admin: AdminClient, topic: str, partitions: int) -> bool:
    found = admin.list_topics(topic, timeout=10).topics[topic].partitions
    return len(found) == partitions and all(part.leader >= 0 for part in found.values())
