"""Build the metadata and the check result that dead letters and refused messages share."""

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any, Final

import dagster as dg

RECENT: Final = timedelta(hours=24)
"""Age up to which a failed message fails its check."""

Row = Mapping[str, str | int | float | bool]


def failure_tables(reasons: Mapping[str, int], counted: str, newest: Iterable[Row]) -> dict[str, Any]:
    """Return the tables `reasons` and `newest` of a page.

    Args:
        reasons: number of messages by reason.
        counted: column name of that number.
        newest: newest messages, newest first.
    """
    return {
        "reasons": _table({"reason": name, counted: count} for name, count in reasons.items()),
        "newest": _table(newest),
    }


def _table(rows: Iterable[Row]) -> dg.MetadataValue[Any]:
    records = [dg.TableRecord(row) for row in rows]
    return dg.MetadataValue.table(records) if records else dg.MetadataValue.md("none")


def failure_check(
    key: dg.AssetKey,
    check: str,
    waiting: int,
    failed: str,
    passed: str,
    *,
    reasons: Mapping[str, int],
    metadata: Mapping[str, Any],
) -> dg.AssetCheckResult:
    """Return the check result of an asset, which passes if no message waits.

    Args:
        key: checked asset.
        check: name of the check.
        waiting: number of recent messages that were not replayed.
        failed: description of a failure, preceded by the number and followed by the reasons.
        passed: description of a success.
        reasons: number of messages by reason.
        metadata: figures of the page.
    """
    why = ", ".join(f"{reason} {count:,}" for reason, count in reasons.items())
    return dg.AssetCheckResult(
        asset_key=key,
        check_name=check,
        passed=not waiting,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{waiting:,} {failed}: {why}" if waiting else passed,
        metadata=metadata,
    )


def as_evaluation(result: dg.AssetCheckResult) -> dg.AssetCheckEvaluation:
    """Convert a check result to an event that a sensor or an op can report."""
    assert result.asset_key is not None
    assert result.check_name is not None
    return dg.AssetCheckEvaluation(
        asset_key=result.asset_key,
        check_name=result.check_name,
        passed=result.passed,
        severity=result.severity,
        description=result.description,
        metadata=result.metadata,
    )
