"""Check each topic's consumer lag (`lag`) and the state of its partitions (`health`).

The lag sensor reports both checks continuously; they can also be run from the page of a topic.
"""

from collections.abc import Iterator
from typing import Any, Final

import dagster as dg

from assets.topics import SPECS, topic_key
from coinstream.monitoring.group_lag import Status
from coinstream.monitoring.lag import LagMonitor, lag_history
from coinstream.monitoring.topic_report import ReaderLag, TopicReport, TopicStatsReader, report_topics
from resources.admin import AdminResource

LAG_CHECK: Final = "lag"
HEALTH_CHECK: Final = "health"

_DESCRIPTIONS: Final = {
    LAG_CHECK: "No group that lags on the topic is unhealthy (stop, stall, rewind or behind).",
    HEALTH_CHECK: "Every partition has a leader; the metadata counts those with too few replicas in sync.",
}


def lag_result(report: TopicReport) -> tuple[bool, str]:
    """Return whether the check passes, with the evaluation of each group that lags on the topic."""
    if not report.readers:
        return True, "no group reads this topic"
    shown = report.alarming or report.lagging
    if not shown:
        return True, "every group has handled every message"
    return not report.alarming, "; ".join(_sentence(one) for one in shown)


def _sentence(reader: ReaderLag) -> str:
    age = "" if reader.seconds is None else f", the oldest {reader.seconds:,.0f} s old"
    found = reader.evaluation
    return (
        f"{reader.group} {found.status}: {found.detail}; {reader.messages:,} message(s) unhandled here{age}"
    )


def health_result(report: TopicReport) -> tuple[bool, str]:
    """Return whether the check passes, with the state of the partitions."""
    text = (
        f"{report.partitions} partitions, {report.leaderless} without a leader, "
        f"{report.under_replicated} with too few replicas in sync"
    )
    return report.status is not Status.UNHEALTHY, text


def topic_metadata(report: TopicReport) -> dict[str, Any]:
    """Return the figures that the web UI plots over time."""
    numbers: dict[str, Any] = {
        "lag_messages": report.lag_messages,
        "lag_seconds": round(report.lag_seconds, 3),
        "partitions": report.partitions,
        "records": report.records,
        "leaderless_partitions": report.leaderless,
        "under_replicated_partitions": report.under_replicated,
        "status": str(report.group_status),
        "health": str(report.status),
    }
    if report.rate is not None:
        numbers["messages_per_second"] = round(report.rate, 3)
    return numbers | {"groups": _groups(report)} if report.readers else numbers


def results(report: TopicReport) -> dict[str, tuple[bool, str]]:
    """Return the result and description of each check by name."""
    return {LAG_CHECK: lag_result(report), HEALTH_CHECK: health_result(report)}


def severity(report: TopicReport) -> dg.AssetCheckSeverity:
    """Return ERROR for a partition without a leader, else WARN: lagging messages are late, not lost."""
    return dg.AssetCheckSeverity.ERROR if report.leaderless else dg.AssetCheckSeverity.WARN


def _groups(report: TopicReport) -> dg.TableMetadataValue:
    schema = dg.TableSchema(
        [
            dg.TableColumn("group"),
            dg.TableColumn("messages", "int"),
            dg.TableColumn("seconds", "float"),
            dg.TableColumn("status"),
            dg.TableColumn("reason"),
        ]
    )
    records = [
        dg.TableRecord(
            {
                "group": one.group,
                "messages": one.messages,
                "seconds": -1.0 if one.seconds is None else round(one.seconds, 3),
                "status": str(one.evaluation.status),
                "reason": one.evaluation.reason,
            }
        )
        for one in report.readers
    ]
    return dg.MetadataValue.table(records, schema=schema)


@dg.multi_asset_check(
    name="topic_health",
    specs=[
        dg.AssetCheckSpec(name, asset=topic_key(topic), description=text)
        for topic in SPECS
        for name, text in _DESCRIPTIONS.items()
    ],
    can_subset=True,
)
def topic_health(
    context: dg.AssetCheckExecutionContext, admin: AdminResource
) -> Iterator[dg.AssetCheckResult]:
    """Measure and evaluate the selected topics."""
    monitor = LagMonitor(admin.settings(), history=lag_history())
    stats = TopicStatsReader(monitor.cluster).look()
    reports = report_topics(monitor.cluster.metadata(), stats, monitor.measure_all(), monitor.settings)
    for key in sorted(context.selected_asset_check_keys):
        report = reports.get(key.asset_key.path[-1])
        if report is None:
            yield dg.AssetCheckResult(
                asset_key=key.asset_key,
                check_name=key.name,
                passed=False,
                description="The topic does not exist: materialize it, or run `coinstream topics apply`.",
            )
            continue
        passed, text = results(report)[key.name]
        yield dg.AssetCheckResult(
            asset_key=key.asset_key,
            check_name=key.name,
            passed=passed,
            severity=severity(report),
            description=text,
            metadata=topic_metadata(report),
        )


defs = dg.Definitions(asset_checks=[topic_health])
