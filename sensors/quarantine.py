"""Evaluate the quarantine's checks after landing refuses messages or a replay lands them."""

import time
from datetime import UTC, datetime
from typing import Final

import dagster as dg
import msgspec

from assets.failed_messages import RECENT, as_evaluation
from assets.quarantine import TYPES, check_result
from coinstream.lake.schemas import QUARANTINE
from coinstream.settings import WatchSettings
from resources.lake import LakeResource

WATCH: Final = WatchSettings()
RECOUNT_S: Final = 900.0
"""Interval of recounts without a new snapshot, because messages pass the age of a day, in seconds."""


class QuarantineCursor(msgspec.Struct):
    """Cursor with the quarantine's snapshot, the time of its count, and the reported counts."""

    snapshot: int | None = None
    at: float = 0.0
    counts: dict[str, int] = {}


@dg.sensor(
    name="quarantine_sensor",
    minimum_interval_seconds=max(WATCH.interval_s, 30),
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Evaluate the check `new_refused_messages` of a type when landing refused messages of it, "
    "when a replay landed some, and when a day has passed.",
    tags={"system": "lake"},
)
def quarantine_sensor(context: dg.SensorEvaluationContext, lake: LakeResource) -> dg.SensorResult:
    """Count refused messages when the quarantine has changed, and report the types whose count changed."""
    opened = lake.open()
    seen = (
        msgspec.json.decode(context.cursor, type=QuarantineCursor) if context.cursor else QuarantineCursor()
    )
    table = opened.find(QUARANTINE)
    current = table.current_snapshot() if table is not None else None
    snapshot = current.snapshot_id if current is not None else None
    now = time.time()
    if context.cursor and snapshot == seen.snapshot and (snapshot is None or now - seen.at < RECOUNT_S):
        return dg.SensorResult(skip_reason="the quarantine has not changed", cursor=context.cursor)
    from coinstream.lake.quarantine import waiting_by_type

    counts = waiting_by_type(opened, datetime.fromtimestamp(now, UTC) - RECENT)
    # The first tick reports every type, so that no check shows as never evaluated.
    changed = [
        kind for kind in TYPES if not context.cursor or counts.get(kind, 0) != seen.counts.get(kind, 0)
    ]
    changes = "; ".join(f"{kind}: {counts.get(kind, 0):,} refused in 24 hours" for kind in changed)
    return dg.SensorResult(
        asset_events=[as_evaluation(check_result(opened, kind)) for kind in changed],
        skip_reason=changes or "the counts of refused messages have not changed",
        cursor=msgspec.json.encode(QuarantineCursor(snapshot, now, counts)).decode(),
    )


defs = dg.Definitions(sensors=[quarantine_sensor])
