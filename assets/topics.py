"""Define the topics as assets: materializing one applies its spec."""

from collections.abc import Iterator
from typing import Any, Final

import dagster as dg

from assets.dead_letter_figures import dead_letter_metadata, read_summary
from assets.metadata import columns, messages_table, plan_table, settings_table
from coinstream.consumer.tail_reader import count_messages, newest_records
from coinstream.dlq.entry import DeadLetterFilter
from coinstream.messages import OHLCV, MessageType, type_for_topic
from coinstream.settings import BrokerSettings, HomeSettings
from coinstream.topics.catalogue import DEAD_LETTER_SUFFIX, HEALTH_TOPIC, TopicSpec, catalogue
from coinstream.topics.plan import ActualTopic, TopicPlan
from resources.admin import AdminResource

OWNERS: Final = ["team:market-data"]
FEEDS_KEY: Final = dg.AssetKey(["feeds", "market_data"])
CANDLES_KEY: Final = dg.AssetKey("candles")
CANDLES_GROUP: Final = "candles"
STREAM: Final = dg.DataVersion("stream")
"""Constant data version of streams, so that new messages do not mark downstream assets as out of sync."""
NEWEST: Final = 10
"""Number of messages shown on the page of a topic."""
MOST_READ: Final = 5_000
"""Number of newest dead letters that are counted by error."""
SPECS: Final = {spec.name: spec for spec in catalogue(HomeSettings().exchange_topics)}


def topic_key(topic: str) -> dg.AssetKey:
    """Return the asset of a topic."""
    return dg.AssetKey(["topics", topic])


def is_supporting(topic: str) -> bool:
    """Return whether a topic carries no market data: dead letters or health probes."""
    return topic.endswith(DEAD_LETTER_SUFFIX) or topic == HEALTH_TOPIC


def group_of(kind: MessageType | None, otherwise: str) -> str:
    """Return the asset group of the topic or table of a message type.

    Candles are built from tables and landed in one. A separate group avoids a cycle between groups.
    """
    return CANDLES_GROUP if kind is OHLCV else otherwise


_PURPOSE: Final = {True: "messages that could not be handled", False: "producer health probes"}


def _upstream(topic: str) -> list[dg.AssetKey]:
    """Return the upstream assets of a topic; that of a dead-letter topic is its original topic."""
    if topic.endswith(DEAD_LETTER_SUFFIX):
        original = topic.removesuffix(DEAD_LETTER_SUFFIX)
        return [topic_key(original) if original in SPECS else FEEDS_KEY]
    if topic == HEALTH_TOPIC:
        return []
    return [FEEDS_KEY, *([CANDLES_KEY] if topic == OHLCV.topic else [])]


def _group(topic: str, kind: MessageType | None) -> str:
    if topic.endswith(DEAD_LETTER_SUFFIX):
        return "dead_letters"
    return "supporting_topics" if topic == HEALTH_TOPIC else group_of(kind, "topics")


def _asset(spec: TopicSpec) -> dg.AssetSpec:
    supporting = is_supporting(spec.name)
    kind = None if supporting else type_for_topic(spec.name)
    holds = f"{kind.name} messages" if kind else _PURPOSE[spec.name.endswith(DEAD_LETTER_SUFFIX)]
    days = spec.retention_ms / 86_400_000
    return dg.AssetSpec(
        topic_key(spec.name),
        deps=_upstream(spec.name),
        description=f"The topic `{spec.name}` holds {holds}: {spec.partitions} partitions, "
        f"kept {days:.3g} day(s).\n\nMaterializing it plans the difference between this specification and "
        "the cluster, and applies what is safe: it creates, adds partitions and changes settings, and never "
        "deletes or shrinks.",
        group_name=_group(spec.name, kind),
        kinds={"redpanda"},
        owners=OWNERS,
        tags={"system": "topics"},
        metadata={"specification": settings_table(_wanted(spec))}
        | ({"dagster/column_schema": columns(kind)} if kind else {}),
    )


def _wanted(spec: TopicSpec) -> dict[str, str]:
    shape = {"partitions": str(spec.partitions), "replication.factor": str(spec.replication_factor)}
    return shape | spec.config()


@dg.multi_asset(
    specs=[_asset(spec) for spec in SPECS.values()],
    can_subset=True,
    name="provision",
    description="Plans and applies the selected topics in one step.",
)
def topics(context: dg.AssetExecutionContext, admin: AdminResource) -> Iterator[dg.MaterializeResult[None]]:
    """Plan and apply the selected topics."""
    names = [key.path[-1] for key in sorted(context.selected_asset_keys)]
    provisioner = admin.provisioner()
    wanted = provisioner.plan(SPECS[name] for name in names)
    if wanted.warnings:
        context.log.warning("\n".join(wanted.warnings))
    provisioner.apply(wanted)
    actual = {topic.name: topic for topic in provisioner.actual()}
    messages = count_messages(admin.settings(), {name: actual[name].partitions for name in names})
    for topic in wanted.topics:
        if topic.spec is not None:
            yield dg.MaterializeResult(
                asset_key=topic_key(topic.name),
                metadata=_newest(admin.settings(), topic.name, messages[topic.name])
                | _metadata(topic, actual[topic.name], messages[topic.name]),
                data_version=STREAM,
            )


def _newest(brokers: BrokerSettings, topic: str, messages: int) -> dict[str, Any]:
    """Return the newest messages of a topic; those of a dead-letter topic with their errors."""
    if not topic.endswith(DEAD_LETTER_SUFFIX):
        return newest_messages(brokers, topic, messages)
    summary = read_summary(brokers, topic, DeadLetterFilter(newest=MOST_READ)) if messages else None
    return dead_letter_metadata(summary) if summary is not None else {}


def newest_messages(brokers: BrokerSettings, topic: str, messages: int) -> dict[str, dg.MetadataValue]:
    """Return the newest messages of a topic as a table, or an empty mapping for an empty topic."""
    if not messages:
        return {}
    return {"newest_messages": messages_table(newest_records(brokers, topic, NEWEST))}


def _metadata(topic: TopicPlan, actual: ActualTopic, messages: int) -> dict[str, dg.MetadataValue]:
    return {
        "action": dg.MetadataValue.text(str(topic.action)),
        "dagster/row_count": dg.MetadataValue.int(messages),
        "partitions": dg.MetadataValue.int(actual.partitions),
        "replication_factor": dg.MetadataValue.int(actual.replication_factor),
        "plan": plan_table(topic) if topic.differences else dg.MetadataValue.md("no change"),
        "settings": settings_table({name: actual.config[name] for name in sorted(actual.overridden)}),
        "warnings": dg.MetadataValue.md("\n".join(f"- {text}" for text in topic.warnings) or "none"),
    }


provision_topics = dg.define_asset_job(
    "provision_topics",
    selection=dg.AssetSelection.assets(topics).without_checks(),
    description="Create missing topics and restore changed settings. Topics are never deleted or shrunk.",
    tags={"system": "topics"},
)

defs = dg.Definitions(assets=[topics], jobs=[provision_topics])
