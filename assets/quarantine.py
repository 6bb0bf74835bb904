"""The quarantine on its page: a job that shows which rows were refused or flagged, and why."""

from typing import Any, Final

import dagster as dg
from pydantic import Field

from assets.lake import table_key
from coinstream.lake.query import query
from coinstream.lake.schemas import VIOLATION_TABLES
from coinstream.lake.store import Lake
from coinstream.text import readable
from resources.lake import LakeResource

_TEXT: Final = 300


class InspectConfig(dg.Config):
    """How many rows to show."""

    newest: int = Field(default=20, gt=0, le=1_000, description="Number of the newest rows to show.")


def figures(lake: Lake, table: str, newest: int) -> dict[str, Any]:
    """Return count, reasons and newest rows of a table of violations."""
    counts = query(lake, f"SELECT type, reason, count(*) FROM {table} GROUP BY ALL ORDER BY 3 DESC LIMIT 50")  # nosec B608
    rows = query(
        lake,
        'SELECT type, topic, partition, "offset", record_timestamp, reason, value '
        f"FROM {table} ORDER BY ingested_at DESC LIMIT {newest}",  # nosec B608
    )
    reasons = [dg.TableRecord({"type": str(a), "reason": str(b), "rows": int(c)}) for a, b, c in counts.rows]
    shown = [
        dg.TableRecord(
            {
                "type": str(kind),
                "place": f"{topic}[{partition}]@{offset}",
                "time": str(time),
                "reason": str(reason)[:_TEXT],
                "value": readable(bytes(value or b"")[:_TEXT]),
            }
        )
        for kind, topic, partition, offset, time, reason, value in rows.rows
    ]
    total = sum(int(str(row.data["rows"])) for row in reasons)
    return {
        "rows": total,
        "reasons": dg.MetadataValue.table(reasons) if reasons else dg.MetadataValue.md("none"),
        "newest": dg.MetadataValue.table(shown) if shown else dg.MetadataValue.md("none"),
    }


@dg.op(description="Shows how many rows are in the quarantine and among the flagged rows, and why.")
def inspect_violations(context: dg.OpExecutionContext, config: InspectConfig, lake: LakeResource) -> None:
    """Note the figures on the page of each table."""
    opened = lake.open()
    opened.quarantine(), opened.flagged()  # so that they exist, also while they are empty
    for name in VIOLATION_TABLES:
        found = figures(opened, name, config.newest)
        text = f"{name}: {found['rows']:,} row(s)"
        context.log.info(text)
        context.log_event(dg.AssetObservation(table_key(name), description=text, metadata=found))


@dg.job(
    description="Show the rows that landing refused (`quarantine`) or flagged (`flagged`), and why.",
    tags={"system": "lake"},
)
def inspect_quarantine() -> None:
    """One step."""
    inspect_violations()


defs = dg.Definitions(jobs=[inspect_quarantine])
