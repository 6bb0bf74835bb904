"""Check the newest messages of each topic against the schema of its message type."""

from collections.abc import Iterator
from typing import Final

import dagster as dg

from assets.topics import SPECS, topic_key, topics
from coinstream.consumer.tail_reader import newest_records
from coinstream.expectations.topic_schema import Finding, check_sample
from coinstream.messages import MessageType, type_for_topic
from coinstream.topics.catalogue import DEAD_LETTER_SUFFIX
from resources.admin import AdminResource

SAMPLE: Final = 2_000
"""Maximum number of newest messages read by a check."""

CHECKED: Final[dict[str, MessageType]] = {
    name: kind
    for name in SPECS
    if not name.endswith(DEAD_LETTER_SUFFIX) and (kind := type_for_topic(name)) is not None
}


@dg.multi_asset_check(
    name="schema",
    specs=[
        dg.AssetCheckSpec(
            "schema",
            asset=topic_key(name),
            description=f"The newest messages, at most {SAMPLE:,}, are valid {kind.name} messages.",
        )
        for name, kind in CHECKED.items()
    ],
    can_subset=True,
)
def schema(context: dg.AssetCheckExecutionContext, admin: AdminResource) -> Iterator[dg.AssetCheckResult]:
    """Check the newest messages of each selected topic."""
    settings = admin.settings()
    for key in sorted(context.selected_asset_check_keys):
        topic = key.asset_key.path[-1]
        records = newest_records(settings, topic, SAMPLE)
        findings = check_sample(CHECKED[topic], records)
        yield dg.AssetCheckResult(
            asset_key=key.asset_key,
            check_name=key.name,
            passed=all(finding.met for finding in findings),
            description=_summary(CHECKED[topic], findings, len(records)),
            metadata={"messages": len(records), "expectations": _table(findings)},
        )


def _summary(kind: MessageType, findings: list[Finding], records: int) -> str:
    if not records:
        return "The topic is empty."
    if all(finding.met for finding in findings):
        return f"{records:,} messages meet all {len(findings)} expectations."
    readable, *fields = findings
    sentences = [f"{readable.unexpected:,} of {records:,} messages are not valid {kind.name} messages"]
    sentences += [readable.examples] if readable.examples else []
    if readable.met:
        sentences = [
            f"{found.expectation} fails in {found.unexpected:,} of {records:,} messages"
            for found in fields
            if not found.met
        ]
    return ": ".join(sentences)


def _table(findings: list[Finding]) -> dg.MetadataValue:
    records = [
        dg.TableRecord(
            {
                "expectation": finding.expectation,
                "met": finding.met,
                "unexpected": finding.unexpected,
                "examples": finding.examples[:300],
            }
        )
        for finding in findings
    ]
    schema = dg.TableSchema(
        [
            dg.TableColumn("expectation"),
            dg.TableColumn("met", "bool"),
            dg.TableColumn("unexpected", "int"),
            dg.TableColumn("examples"),
        ]
    )
    return dg.MetadataValue.table(records, schema=schema)


check_topics = dg.define_asset_job(
    "check_topics",
    selection=dg.AssetSelection.assets(topics) | dg.AssetSelection.checks(schema),
    description="Provision the topics, show their newest messages, and check them.",
    tags={"system": "topics"},
)

defs = dg.Definitions(asset_checks=[schema], jobs=[check_topics])
