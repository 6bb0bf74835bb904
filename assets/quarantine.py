"""Define the quarantine's assets and check, and the jobs that inspect and replay refused messages."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import dagster as dg
from pydantic import Field

from assets.failed_messages import RECENT, Row, as_evaluation, failure_check, failure_tables
from assets.lake import VIOLATION_COLUMNS, table_key
from assets.topics import OWNERS
from coinstream.lake.schemas import FLAGGED, QUARANTINE, spec_named
from coinstream.lake.store import Lake, known_specs
from coinstream.text import parse_time
from resources.lake import LakeResource

if TYPE_CHECKING:
    from coinstream.lake.quarantine import Violation, ViolationSummary

CHECK: Final = "new_refused_messages"
TYPES: Final = tuple(spec.name for spec in known_specs())


def quarantine_key(kind: str) -> dg.AssetKey:
    """Return the asset key of a type's refused messages."""
    return dg.AssetKey(["quarantine", kind])


SPECS: Final = [
    dg.AssetSpec(
        quarantine_key(kind),
        deps=[table_key(kind)],
        description=f"Messages that landing refused for table `{kind}`: the rows of table `{QUARANTINE}` "
        f"with type `{kind}`. Job `inspect_quarantine` shows the newest of them with their reasons; job "
        "`replay_quarantine` checks them again and lands those that meet the present rules.",
        group_name="quarantine",
        kinds={"iceberg"},
        owners=OWNERS,
        tags={"system": "lake"},
        metadata={"dagster/column_schema": VIOLATION_COLUMNS, "dagster/table_name": f"market.{QUARANTINE}"},
    )
    for kind in TYPES
]


class InspectQuarantineConfig(dg.Config):
    """Selection of refused messages to show."""

    type: str = Field(default="", description="Message type, for example `level1`. Empty: every type.")
    newest: int = Field(default=20, gt=0, le=1_000, description="Number of the newest messages to show.")


class ReplayQuarantineConfig(dg.Config):
    """Selection of refused messages to replay."""

    type: str = Field(description="Message type, for example `level1`.")
    dry_run: bool = Field(default=True, description="Only count the messages; set to false to land them.")
    reason: str | None = Field(
        default=None, description="Only messages whose reason or failed rule contains this text."
    )
    since: str | None = Field(
        default=None, description="Only messages refused at this time or later (ISO 8601)."
    )
    limit: int | None = Field(
        default=None, gt=0, description="Maximum number of messages to check, oldest first."
    )


def violation_metadata(summary: "ViolationSummary") -> dict[str, Any]:
    """Return the metadata of a summary: counts, reasons and newest messages."""
    return {
        "messages": summary.entries,
        "not_stored": summary.waiting,
        **failure_tables(summary.reasons, "messages", map(_row, summary.newest)),
    }


def _row(one: "Violation") -> Row:
    return {
        "type": one.type,
        "from": one.origin,
        "time": one.time,
        "reason": one.reason,
        "stored": one.stored,
        "value": one.value,
    }


def check_result(lake: Lake, kind: str) -> dg.AssetCheckResult:
    """Return the check of a type, which passes if no message of the last 24 hours awaits a replay."""
    from coinstream.lake.quarantine import summarize_violations

    summary = summarize_violations(lake, QUARANTINE, kind, datetime.now(UTC) - RECENT)
    return failure_check(
        quarantine_key(kind),
        CHECK,
        summary.waiting,
        "message(s) refused in 24 hours",
        "no message refused in 24 hours that is not stored by now",
        reasons=summary.reasons,
        metadata=violation_metadata(summary),
    )


@dg.multi_asset_check(
    name="quarantine",
    specs=[
        dg.AssetCheckSpec(
            CHECK,
            asset=quarantine_key(kind),
            description=f"Landing refused no message of type {kind} in the last 24 hours, unless it was "
            "replayed. The sensor `quarantine_sensor` evaluates it when messages are refused or replayed.",
        )
        for kind in TYPES
    ],
    can_subset=True,
)
def quarantine(context: dg.AssetCheckExecutionContext, lake: LakeResource) -> Iterator[dg.AssetCheckResult]:
    """Check each selected type for messages refused in the last 24 hours."""
    opened = lake.open()
    for key in sorted(context.selected_asset_check_keys):
        yield check_result(opened, key.asset_key.path[-1])


@dg.op(description="Show the newest refused messages and flagged rows on the page of each type.")
def inspect_violations(
    context: dg.OpExecutionContext, config: InspectQuarantineConfig, lake: LakeResource
) -> None:
    """Report count, reasons and newest messages of each type and table as observations."""
    from coinstream.lake.quarantine import summarize_violations

    opened = lake.open()
    chosen = [spec_named(config.type).name] if config.type else list(TYPES)
    waiting = 0
    for kind in chosen:
        found = summarize_violations(opened, QUARANTINE, kind, shown=config.newest)
        waiting += found.waiting
        _observe(context, quarantine_key(kind), f"{kind}: {found.entries:,} refused message(s)", found)
    for table in (QUARANTINE, FLAGGED):
        found = summarize_violations(opened, table, config.type or None, shown=config.newest)
        _observe(context, table_key(table), f"{table}: {found.entries:,} message(s)", found)
    context.add_output_metadata({"not_stored": waiting})


def _observe(context: dg.OpExecutionContext, key: dg.AssetKey, text: str, found: "ViolationSummary") -> None:
    context.log.info(f"{text} {dict(found.reasons) or ''}".strip())
    context.log_event(dg.AssetObservation(key, description=text, metadata=violation_metadata(found)))


@dg.op(description="Check refused messages again and land those that pass; with `dry_run` only count them.")
def replay_refused(
    context: dg.OpExecutionContext, config: ReplayQuarantineConfig, lake: LakeResource
) -> None:
    """Replay the selected messages of one type, and evaluate its check again."""
    from coinstream.expectations.validator import ExpectationValidator
    from coinstream.lake.quarantine_replay import QuarantineFilter, replay_quarantine

    opened, spec = lake.open(), spec_named(config.type)
    wanted = QuarantineFilter(config.reason, parse_time(config.since) if config.since else None, config.limit)
    validator = ExpectationValidator(spec, opened.settings)
    done = replay_quarantine(opened, spec, validator, wanted, dry_run=config.dry_run, run_id=context.run_id)
    did = "would land" if config.dry_run else "landed"
    context.log.info(
        f"{did} {done.landed:,} of {done.selected:,} refused {spec.name} message(s); {done.refused:,} break "
        f"a rule still, {done.present:,} were in the table, {done.incomplete:,} are too long to be whole"
        + ("; set dry_run to false to land them" if config.dry_run else "")
    )
    context.add_output_metadata(
        {
            "selected": done.selected,
            did.replace(" ", "_"): done.landed,
            "refused_again": done.refused,
            "in_the_table_before": done.present,
            "incomplete": done.incomplete,
        }
    )
    if not config.dry_run:
        context.instance.report_runless_asset_event(as_evaluation(check_result(opened, spec.name)))


@dg.job(
    description="Show the messages that landing refused, by type, and those that it flagged, with reasons.",
    tags={"system": "lake"},
)
def inspect_quarantine() -> None:
    """Run the op `inspect_violations`."""
    inspect_violations()


@dg.job(
    name="replay_quarantine",
    description="Check refused messages of a type again, by the present rules, and land those that pass. "
    "A dry run unless `dry_run` is false.",
    tags={"system": "lake"},
)
def replay_quarantine_job() -> None:
    """Run the op `replay_refused`."""
    replay_refused()


defs = dg.Definitions(
    assets=SPECS, asset_checks=[quarantine], jobs=[inspect_quarantine, replay_quarantine_job]
)
