"""Define the tables as assets: materializing one lands its topics, and a backfill completes past hours."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import dagster as dg
from pydantic import Field

from assets.landing_run import counts, land_in_run, pool_of
from assets.metadata import MEANINGS
from assets.topics import OWNERS, SPECS, STREAM, group_of, topic_key
from coinstream.lake.charts import as_markdown, line_chart
from coinstream.lake.first_hour import first_hour
from coinstream.lake.schemas import QUARANTINE_SCHEMA, VIOLATION_TABLES, TableSpec
from coinstream.lake.store import Lake, known_specs
from coinstream.messages import type_for_topic
from coinstream.settings import BrokerSettings
from coinstream.topics.catalogue import DEAD_LETTER_SUFFIX
from resources.admin import AdminResource
from resources.lake import LakeResource

if TYPE_CHECKING:
    from coinstream.expectations.docs import DataDocs
    from coinstream.lake.landing import TableReport

HOURS: Final = dg.HourlyPartitionsDefinition(start_date=first_hour(), timezone="UTC", end_offset=1)
"""Hourly partitions by record timestamp, including the current hour."""
_COMPACTED: Final = ("table", "rows", "files_before", "files_after", "snapshots_expired", "files_removed")
COMPACTION_KEY: Final = dg.AssetKey(["tables", "compaction"])


def table_key(name: str) -> dg.AssetKey:
    """Return the asset of a table."""
    return dg.AssetKey(["tables", name])


def topics_of(spec: TableSpec) -> list[str]:
    """Return the topics landed in a table."""
    return [
        name for name in SPECS if not name.endswith(DEAD_LETTER_SUFFIX) and type_for_topic(name) is spec.kind
    ]


def hour_of(moment: datetime) -> str:
    """Return the hourly partition of a time."""
    return f"{moment.astimezone(UTC):%Y-%m-%d-%H:00}"


class LandingConfig(dg.Config):
    """Backfill options of a landing run."""

    again: bool | None = Field(
        default=None,
        description="Look the partition's hour through again and land what the table lacks of it. "
        "None: only when the hour is over, as in a backfill.",
    )


def _table(spec: TableSpec) -> dg.AssetsDefinition:
    @dg.asset(
        key=table_key(spec.name),
        deps=[topic_key(topic) for topic in topics_of(spec)],
        partitions_def=HOURS,
        backfill_policy=dg.BackfillPolicy.single_run(),
        group_name=group_of(spec.kind, "tables"),
        kinds={"iceberg", "python"},
        owners=OWNERS,
        pool=pool_of(spec.name),
        tags={"system": "lake"},
        metadata={"dagster/column_schema": _column_schema(spec), "dagster/table_name": f"market.{spec.name}"},
        description=f"Iceberg table `{spec.name}`, partitioned by day and exchange. Materializing any hour "
        "lands all new messages of the topics exactly once; for a past hour it also backfills missing "
        "messages. Every message is checked; refused ones go to the table `quarantine`.",
    )
    def table(
        context: dg.AssetExecutionContext, config: LandingConfig, admin: AdminResource, lake: LakeResource
    ) -> dg.MaterializeResult[None]:
        from coinstream.expectations.docs import DataDocs
        from coinstream.lake.statistics import summary

        opened, brokers = lake.open(), admin.settings()
        report = land_in_run(context, opened, brokers, spec)
        again = _land_again(context, config, opened, brokers, spec)
        docs = DataDocs(opened.settings)
        for done in (report, again):
            if done is not None and done.messages:
                docs.publish(spec.name, done.checks, done.run, datetime.now(UTC))
        _warn(context, report)
        landed = summary(spec.name, opened.table(spec))
        return dg.MaterializeResult(
            data_version=STREAM,
            metadata={
                **counts(report, again, opened.settings.engine),
                **docs_link(docs, spec, context.run.run_id),
                **{"dagster/row_count": landed.rows, "files": landed.files, "bytes": landed.bytes},
                "dagster/column_lineage": _lineage(spec, report),
                **_plots(spec, lake),
            },
        )

    return table


def _warn(context: dg.AssetExecutionContext, report: "TableReport") -> None:
    for name in report.ignored:
        context.log.warning(f"topic {name} does not land: it is of no known exchange")
    for topic, count in report.lost.items():
        context.log.warning(f"retention removed {count} messages of {topic} before they were landed")


def _land_again(
    context: dg.AssetExecutionContext,
    config: LandingConfig,
    lake: Lake,
    brokers: BrokerSettings,
    spec: TableSpec,
) -> "TableReport | None":
    """Land what the table lacks of the run's hours; return None if they are not backfilled."""
    from coinstream.expectations.validator import ExpectationValidator
    from coinstream.lake.backfill import backfill

    window = _hours_again(context, config)
    if window is None:
        return None
    validator = ExpectationValidator(spec, lake.settings)
    return backfill(lake, brokers, spec, window.start, window.end, validator, run_id=context.run.run_id)


def _hours_again(context: dg.AssetExecutionContext, config: LandingConfig) -> dg.TimeWindow | None:
    """Return the hours that the run backfills, or None if it was launched without a partition."""
    if not (context.has_partition_key or context.has_partition_key_range):
        return None
    window = context.partition_time_window
    is_over = window.end <= datetime.now(UTC)
    return window if config.again or (config.again is None and is_over) else None


def docs_link(docs: "DataDocs", spec: TableSpec, run: str) -> Mapping[str, dg.MetadataValue]:
    """Return a link to a run's Data Docs, or to the newest; a file path if they are not served."""
    page = docs.page(spec.name, run)
    if page is None:
        return {}
    address = docs.address(page)
    return {"data_docs": dg.MetadataValue.url(address) if address else dg.MetadataValue.path(str(page))}


def _column_schema(spec: TableSpec) -> dg.TableSchema:
    wires = {column.name: column.wire for column in spec.columns}
    return dg.TableSchema(
        [
            dg.TableColumn(
                field.name,
                str(field.type),
                _meaning(field.name, wires.get(field.name)),
                dg.TableColumnConstraints(nullable=field.nullable),
            )
            for field in spec.schema
        ]
    )


def _meaning(column: str, wire: str | None) -> str | None:
    if wire is None:
        return MEANINGS.get(column)
    said = MEANINGS.get(wire, "")
    return f"{said} `{wire}` on the wire.".strip()


def _lineage(spec: TableSpec, report: "TableReport") -> dg.TableColumnLineage:
    known = [topic for topic in report.topics if topic in SPECS]
    return dg.TableColumnLineage(
        {
            column.name: [dg.TableColumnDep(topic_key(topic), column.wire) for topic in known]
            for column in spec.columns
        }
    )


def _plots(spec: TableSpec, lake: LakeResource) -> Mapping[str, dg.MetadataValue]:
    if spec.name != "level1":
        return {}
    from coinstream.lake import statistics

    opened = lake.open()
    wanted = {
        "price": ("Mid price", "quote currency", statistics.price_series(opened)),
        "spread": ("Spread", "basis points", statistics.spread_series(opened)),
        "landing_lag": ("Receipt to table", "s", statistics.lag_series(opened)),
    }
    return {
        name: dg.MetadataValue.md(as_markdown(line_chart(*chart), name)) for name, chart in wanted.items()
    }


TABLES: Final = [_table(spec) for spec in known_specs()]

VIOLATION_COLUMNS: Final = dg.TableSchema(
    [dg.TableColumn(field.name, str(field.type), MEANINGS.get(field.name)) for field in QUARANTINE_SCHEMA]
)
VIOLATION_SPECS: Final = [
    dg.AssetSpec(
        key=table_key(name),
        deps=[table.key for table in TABLES],
        group_name="maintenance",
        kinds={"iceberg"},
        owners=OWNERS,
        tags={"system": "lake"},
        metadata={
            "dagster/column_schema": VIOLATION_COLUMNS,
            "dagster/table_name": f"market.{name}",
        },
        description=description + " Landings fill it.",
    )
    for name, description in VIOLATION_TABLES.items()
]


@dg.asset(
    key=COMPACTION_KEY,
    deps=[table_key(spec.name) for spec in known_specs()],
    group_name="maintenance",
    kinds={"iceberg"},
    owners=OWNERS,
    tags={"system": "lake"},
)
def compaction(lake: LakeResource) -> dg.MaterializeResult[None]:
    """Merge small files, expire old snapshots and delete orphan files. Rows are unchanged."""
    from coinstream.lake.maintenance import compact, table_names

    opened = lake.open()
    done = [found for name in table_names() if (found := compact(opened, name)) is not None]
    return dg.MaterializeResult(
        data_version=STREAM,
        metadata={
            "files_removed": sum(one.files_removed for one in done),
            "tables": dg.MetadataValue.table(
                [dg.TableRecord({name: getattr(one, name) for name in _COMPACTED}) for one in done]
            )
            if done
            else dg.MetadataValue.md("There are no tables yet."),
        },
    )


land_topics = dg.define_asset_job(
    "land_topics",
    selection=dg.AssetSelection.assets(*TABLES),
    description="Land new messages of the topics in the tables, and report the checks.",
    tags={"system": "lake"},
)
compact_tables = dg.define_asset_job(
    "compact_tables",
    selection=dg.AssetSelection.assets(compaction),
    description="Merge small files, expire old snapshots and delete orphan files.",
    tags={"system": "lake"},
)


@dg.schedule(
    job=land_topics,
    cron_schedule="*/5 * * * *",
    name="landing_schedule",
    description="Land all topics every five minutes.",
    tags={"system": "lake"},
)
def landing_schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """Request a run for the current hour, which lands all new messages without a backfill."""
    ops = {table.op.name: {"config": {"again": False}} for table in TABLES}
    hour = hour_of(context.scheduled_execution_time)
    return dg.RunRequest(partition_key=hour, run_config={"ops": ops})


compaction_schedule = dg.ScheduleDefinition(
    job=compact_tables,
    cron_schedule="17 * * * *",
    name="compaction_schedule",
    description="Compact the tables every hour.",
    tags={"system": "lake"},
)

defs = dg.Definitions(
    assets=[*TABLES, *VIOLATION_SPECS, compaction],
    jobs=[land_topics, compact_tables],
    schedules=[landing_schedule, compaction_schedule],
)
