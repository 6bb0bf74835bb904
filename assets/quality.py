"""What Great Expectations found in the messages that were landed: one check an expectation.

Landing validates every batch once and writes the counts into the snapshot that holds its rows. The checks
read them there: of the run that they belong to, or of the newest landing when they are run alone.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import dagster as dg
import msgspec

from assets.lake import docs_link, table_key
from coinstream.expectations.docs import DataDocs
from coinstream.expectations.rules import ROW_COUNT, Rule, rules_for
from coinstream.lake.landing import CHECKS, RUN
from coinstream.lake.query import query
from coinstream.lake.schemas import QUARANTINE, TableSpec
from coinstream.lake.store import Lake, known_specs
from resources.lake import LakeResource

SAMPLES: Final = 10
SHOWN: Final = 300
"""Characters of an offender's message that are shown."""
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
                + ("An offender does not land." if rule.refuses_rows else "An offender lands all the same."),
                metadata={"expectation": rule.kind, "refuses_rows": rule.refuses_rows},
            )
            for rule in rules
        ],
        can_subset=True,
    )
    def quality(context: dg.AssetCheckExecutionContext, lake: LakeResource) -> Iterator[dg.AssetCheckResult]:
        opened = lake.open()
        counts = landed_counts(opened, spec, context.run.run_id)
        link = docs_link(DataDocs(opened.settings), spec, context.run.run_id)
        wanted = {key.name for key in context.selected_asset_check_keys}
        for rule in rules:
            if rule.name in wanted:
                yield _result(opened, spec, rule, counts, link)

    return quality


def landed_counts(lake: Lake, spec: TableSpec, run_id: str) -> Mapping[str, tuple[int, int]]:
    """Messages checked and offenders by expectation: of this run, else of the newest landing."""
    table = lake.find(spec.name)
    summaries = [snapshot.summary for snapshot in table.snapshots() if snapshot.summary] if table else []
    told = [(str(summary[RUN]), str(summary[CHECKS])) for summary in summaries if summary[CHECKS]]
    run = run_id if any(found == run_id for found, _ in told) else (told[-1][0] if told else run_id)
    counts: dict[str, tuple[int, int]] = {}
    for found, text in told:
        if found != run:
            continue
        for name, (checked, failed) in msgspec.json.decode(text, type=dict[str, tuple[int, int]]).items():
            before = counts.get(name, (0, 0))
            counts[name] = (before[0] + checked, before[1] + failed)
    return counts


def _result(
    lake: Lake,
    spec: TableSpec,
    rule: Rule,
    counts: Mapping[str, tuple[int, int]],
    link: Mapping[str, dg.MetadataValue],
) -> dg.AssetCheckResult:
    checked, failed = counts.get(rule.name, (0, 0))
    # A table that nothing ever landed in is no batch without messages.
    passed = failed == 0 and not (rule.name == ROW_COUNT and counts and checked == 0)
    metadata: dict[str, Any] = {
        "checked": checked,
        "offenders": failed,
        "refuses_rows": rule.refuses_rows,
        **link,
    }
    if failed:
        metadata["newest_offenders"] = offenders(lake, spec, rule)
    text = (
        f"{failed:,} of {checked:,} messages do not meet it." if failed else f"{checked:,} messages meet it."
    )
    return dg.AssetCheckResult(
        asset_key=table_key(spec.name),
        check_name=rule.name,
        passed=passed,
        severity=_SEVERITY[rule.severity],
        description=text if checked else "Nothing was landed yet.",
        metadata=metadata,
    )


def offenders(lake: Lake, spec: TableSpec, rule: Rule) -> dg.MetadataValue:
    """The newest messages in the quarantine that broke a rule, as a table."""
    found = query(
        lake,
        f"""
        SELECT topic, partition, "offset", record_timestamp::VARCHAR, landed, reason, value
        FROM {QUARANTINE} WHERE type = $type AND list_contains(rules, $rule)
        ORDER BY ingested_at DESC, "offset" DESC
        """,  # nosec B608
        {"type": spec.name, "rule": rule.name},
        limit=SAMPLES,
    )
    names = ("topic", "partition", "offset", "record_timestamp", "landed", "reason", "message")
    # The bytes need not be text; the query has made them some.
    shown = [(*row[:-1], str(row[-1] or "")[:SHOWN]) for row in found.rows]
    records = [dg.TableRecord(dict(zip(names, row, strict=True))) for row in shown]
    return dg.MetadataValue.table(records) if records else dg.MetadataValue.md("none kept")


QUALITY: Final = [_checks(spec) for spec in known_specs()]

defs = dg.Definitions(asset_checks=QUALITY)
