"""Topics as assets: materializing one plans it and applies the plan."""

from collections.abc import Iterator
from typing import Final

import dagster as dg

from coinstream.provisioning import ActualTopic, TopicPlan
from coinstream.settings import HomeSettings
from coinstream.topics import DEAD_LETTER_SUFFIX, HEALTH_TOPIC, TopicSpec, catalogue
from resources.admin import AdminResource

OWNERS: Final = ["team:market-data"]
FEEDS_KEY: Final = dg.AssetKey(["feeds", "market_data"])
SPECS: Final = {spec.name: spec for spec in catalogue(HomeSettings().exchange_topics)}


def topic_key(topic: str) -> dg.AssetKey:
    """The asset of a topic."""
    return dg.AssetKey(["topics", topic])


def _is_supporting(topic: str) -> bool:
    return topic.endswith(DEAD_LETTER_SUFFIX) or topic == HEALTH_TOPIC


def _asset(spec: TopicSpec) -> dg.AssetSpec:
    supporting = _is_supporting(spec.name)
    days = spec.retention_ms / 86_400_000
    return dg.AssetSpec(
        topic_key(spec.name),
        deps=[] if supporting else [FEEDS_KEY],
        description=f"Topic `{spec.name}`: {spec.partitions} partitions, kept {days:g} days. "
        "Materializing plans the difference to the cluster and applies what is safe; it never deletes.",
        group_name="supporting_topics" if supporting else "topics",
        kinds={"redpanda"},
        owners=OWNERS,
        tags={"system": "topics"},
        metadata={name: dg.MetadataValue.text(value) for name, value in spec.config().items()}
        | {"partitions": spec.partitions, "replication.factor": spec.replication_factor},
    )


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
    for topic in wanted.topics:
        if topic.spec is not None:
            yield dg.MaterializeResult(
                asset_key=topic_key(topic.name), metadata=_metadata(topic, actual[topic.name])
            )


def _metadata(topic: TopicPlan, actual: ActualTopic) -> dict[str, dg.MetadataValue]:
    return {
        "verdict": dg.MetadataValue.text(str(topic.verdict)),
        "partitions": dg.MetadataValue.int(actual.partitions),
        "replication_factor": dg.MetadataValue.int(actual.replication_factor),
        "plan": _plan_table(topic),
        "settings": dg.MetadataValue.table(
            [
                dg.TableRecord({"setting": name, "value": actual.config[name]})
                for name in sorted(actual.overridden)
            ]
        ),
        "warnings": dg.MetadataValue.md("\n".join(f"- {text}" for text in topic.warnings) or "none"),
    }


_PLAN_SCHEMA: Final = dg.TableSchema(
    [dg.TableColumn(name) for name in ("setting", "actual", "wanted", "verdict", "reason")]
)


def _plan_table(topic: TopicPlan) -> dg.TableMetadataValue:
    records = [
        dg.TableRecord(
            {
                "setting": item.setting,
                "actual": item.actual or "",
                "wanted": item.wanted or "",
                "verdict": str(item.verdict),
                "reason": item.reason,
            }
        )
        for item in topic.differences
    ]
    return dg.MetadataValue.table(records, schema=_PLAN_SCHEMA)


provision_topics = dg.define_asset_job(
    "provision_topics",
    selection=dg.AssetSelection.assets(topics).without_checks(),
    description="Create missing topics and mend changed settings; never deletes, never shrinks.",
    tags={"system": "topics"},
)

defs = dg.Definitions(assets=[topics], jobs=[provision_topics])
