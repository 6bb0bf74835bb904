"""Report validation results of landed messages, one asset check per expectation.

Landing validates every batch once and stores the counts in the snapshot of its rows. The checks read the
counts of their own run, or of the newest landing when they run alone. A sensor reports landings of the
command line.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import dagster as dg
import msgspec

from assets.failed_messages import as_evaluation
from assets.lake import docs_link, table_key
from coinstream.expectations.rules import ROW_COUNT, Rule, rules_for
from coinstream.lake.landed_offsets import CHECKS, RUN
from coinstream.lake.schemas import VIOLATION_TABLES, TableSpec
from coinstream.lake.store import Lake, known_specs
from coinstream.text import format_timestamp
from resources.lake import LakeResource

SAMPLES: Final = 10
SHOWN: Final = 300
"""Maximum characters shown of a message that fails an expectation."""
_SEVERITY: Final = {"error": dg.AssetCheckSeverity.ERROR, "warn": dg.AssetCheckSeverity.WARN}


def _checks(spec: TableSpec) -> dg.AssetChecksDefinition:
    rules = rules_for(spec.name)

    @dg.multi_asset_check(
        name=f"{spec.name}_quality",
        specs=[
            dg.AssetCheckSpec(
                rule.name,
                asset=table_key(spec.name),
                description=f"Expected: {rule.description}. "
                + (
                    "Rows that fail are refused."
                    if rule.refuses_rows
                    else "Rows that fail are stored and flagged."
                ),
                metadata={"expectation": rule.kind, "refuses_rows": rule.refuses_rows},
            )
            for rule in rules
        ],
        can_subset=True,
    )
    def quality(context: dg.AssetCheckExecutionContext, lake: LakeResource) -> Iterator[dg.AssetCheckResult]:
        from coinstream.expectations.docs import DataDocs

        opened = lake.open()
        landed = landing_checks(opened, spec, context.run.run_id)
        counts = landed.counts if landed else {}
        link = docs_link(DataDocs(opened.settings), spec, context.run.run_id)
        wanted = {key.name for key in context.selected_asset_check_keys}
        for rule in rules:
            if rule.name in wanted:
                yield _result(spec, rule, _finding(opened, spec, rule, counts, link))

    return quality


@dataclass(frozen=True)
class LandingChecks:
    """Validation results of one landing.

    Attributes:
        run: id of the landing.
        snapshot: newest snapshot of the landing.
        counts: checked and failed messages by expectation.
    """

    run: str
    snapshot: int
    counts: Mapping[str, tuple[int, int]]


def landing_checks(lake: Lake, spec: TableSpec, run_id: str | None = None) -> LandingChecks | None:
    """Return the results of a landing by id, or else of the newest one; None before the first landing."""
    table = lake.find(spec.name)
    recorded = [
        (str(snapshot.summary[RUN]), str(snapshot.summary[CHECKS]), snapshot.snapshot_id)
        for snapshot in (table.snapshots() if table else ())
        if snapshot.summary and snapshot.summary[CHECKS]
    ]
    if not recorded:
        return None
    run = run_id if run_id in {run for run, _, _ in recorded} else recorded[-1][0]
    mine = [(text, snapshot) for found, text, snapshot in recorded if found == run]
    counts: dict[str, tuple[int, int]] = {}
    for text, _ in mine:
        for name, (checked, failed) in msgspec.json.decode(text, type=dict[str, tuple[int, int]]).items():
            before = counts.get(name, (0, 0))
            counts[name] = (before[0] + checked, before[1] + failed)
    return LandingChecks(str(run), mine[-1][1], counts)


@dataclass(frozen=True)
class _Finding:
    passed: bool
    description: str
    metadata: Mapping[str, Any]


def _finding(
    lake: Lake,
    spec: TableSpec,
    rule: Rule,
    counts: Mapping[str, tuple[int, int]],
    link: Mapping[str, dg.MetadataValue],
) -> _Finding:
    checked, failed = counts.get(rule.name, (0, 0))
    # A table without a landing differs from a landing without messages.
    passed = failed == 0 and not (rule.name == ROW_COUNT and counts and checked == 0)
    metadata: dict[str, Any] = {
        "checked": checked,
        "failed": failed,
        "refuses_rows": rule.refuses_rows,
        **link,
    }
    if failed:
        metadata["newest_failed"] = failed_messages(lake, spec, rule)
    text = f"{failed:,} of {checked:,} messages fail." if failed else f"{checked:,} messages pass."
    return _Finding(passed, text if checked else "There is no landing yet.", metadata)


def _result(spec: TableSpec, rule: Rule, found: _Finding) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        asset_key=table_key(spec.name),
        check_name=rule.name,
        passed=found.passed,
        severity=_SEVERITY[rule.severity],
        description=found.description,
        metadata=found.metadata,
    )


@dg.sensor(
    name="landing_checks_sensor",
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Report the checks of landings by `coinstream lake land`, outside of Dagster runs.",
    tags={"system": "lake"},
)
def landing_checks_sensor(context: dg.SensorEvaluationContext, lake: LakeResource) -> dg.SensorResult:
    """Report the checks of each table's newest landing if it is newer than the cursor."""
    opened = lake.open()
    seen: dict[str, int] = msgspec.json.decode(context.cursor or "{}", type=dict[str, int])
    events: list[dg.AssetCheckEvaluation] = []
    for spec in known_specs():
        newest = landing_checks(opened, spec)
        if newest is None or seen.get(spec.name) == newest.snapshot:
            continue
        from coinstream.expectations.docs import DataDocs

        seen[spec.name] = newest.snapshot
        if context.instance.has_run(newest.run):
            continue  # its own checks report it
        link = docs_link(DataDocs(opened.settings), spec, newest.run)
        events += [
            as_evaluation(_result(spec, rule, _finding(opened, spec, rule, newest.counts, link)))
            for rule in rules_for(spec.name)
        ]
    summary = f"{len(events):,} check(s) of command-line landings" if events else "no such landing"
    cursor = msgspec.json.encode(seen).decode()
    return dg.SensorResult(asset_events=events, skip_reason=summary, cursor=cursor)


def failed_messages(lake: Lake, spec: TableSpec, rule: Rule) -> dg.MetadataValue:
    """Return the newest messages that failed a rule as a table."""
    from coinstream.lake.query import query

    kept = [name for name in VIOLATION_TABLES if lake.find(name) is not None]
    found = query(
        lake,
        " UNION ALL ".join(  # noqa: S608
            f"""
            SELECT topic, partition, "offset", epoch_ms(record_timestamp), stored, reason, value, ingested_at
            FROM {name} WHERE type = $type AND list_contains(rules, $rule)
            """  # noqa: S608
            for name in kept
        )
        + ' ORDER BY ingested_at DESC, "offset" DESC',
        {"type": spec.name, "rule": rule.name},
        limit=SAMPLES,
    )
    records = [_record(row) for row in found.rows]
    return dg.MetadataValue.table(records) if records else dg.MetadataValue.md("none kept")


def _record(row: Sequence[Any]) -> dg.TableRecord:
    *position, at_ms, stored, reason, value, _ = row
    names = ("topic", "partition", "offset", "record_timestamp", "stored", "reason", "message")
    time = format_timestamp(-1 if at_ms is None else at_ms)
    # The payload may not be text; the query has converted it.
    shown = (*position, time, stored, reason, str(value or "")[:SHOWN])
    return dg.TableRecord(dict(zip(names, shown, strict=True)))


QUALITY: Final = [_checks(spec) for spec in known_specs()]

defs = dg.Definitions(asset_checks=QUALITY, sensors=[landing_checks_sensor])
