"""Create the events that the web UI plots for each topic, at most one per minute and asset.

If a check changes, the event is a check evaluation; otherwise it is an observation with the figures.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import dagster as dg

from assets.dead_letters import CHECK
from assets.failed_messages import RECENT
from assets.topic_health import results, severity, topic_metadata
from assets.topics import SPECS, is_supporting, topic_key
from coinstream.monitoring.topic_report import TopicReport
from coinstream.topics.catalogue import DEAD_LETTER_SUFFIX
from sensors.topic_notes import signature

_REPEAT_S: Final = 3_600.0
"""Interval at which an unchanged evaluation is repeated, in seconds."""

_QUIET: Final = 15
"""Factor by which events of idle and supporting topics are less frequent."""

Event = dg.AssetObservation | dg.AssetCheckEvaluation


def topic_events(
    notes: dict[str, Any],
    reports: Mapping[str, TopicReport],
    now: float,
    every_s: float,
) -> list[Event]:
    """Return the due events. `notes` stores the time and check results of each topic's last event."""
    due: list[Event] = []
    for topic in sorted(reports.keys() & SPECS.keys()):
        known = notes.setdefault(topic, {"at": 0.0, "checks": {}, "shown": None})
        report = reports[topic]
        if topic.endswith(DEAD_LETTER_SUFFIX) and (arrived := _dead_letters(known, report, now)) is not None:
            due.append(arrived)
            continue
        wait = every_s if _is_due_early(topic, report, known) else every_s * _QUIET
        if now - known["at"] >= wait or (now - known["at"] >= every_s and _has_changed(known, report)):
            known |= {"at": now, "shown": _signature(report)}
            due.append(_next(known["checks"], report, now))
    for gone in notes.keys() - reports.keys():
        del notes[gone]
    return due


def _dead_letters(known: dict[str, Any], report: TopicReport, now: float) -> dg.AssetCheckEvaluation | None:
    """Return the due evaluation: entries arrived, or none arrived for a day."""
    if report.leaderless:
        # The end offsets of some partitions are unknown; they are not new when they are known again.
        return None
    before, since = known.setdefault("dead", [report.end, 0.0])
    new = report.end - before
    if new > 0:
        known["dead"] = [report.end, now]
        text = f"{new:,} new dead letter(s); inspect_dead_letters shows them"
    elif since and now - since > RECENT.total_seconds():
        known["dead"] = [report.end, 0.0]
        text = "no new dead letter in 24 hours"
    else:
        known["dead"] = [report.end, since]
        return None
    return dg.AssetCheckEvaluation(
        asset_key=topic_key(report.topic),
        check_name=CHECK,
        passed=new <= 0,
        severity=dg.AssetCheckSeverity.WARN,
        description=text,
        metadata={"new_dead_letters": max(new, 0), "dead_letters": report.records},
    )


def _signature(report: TopicReport) -> int:
    return signature(report.records, report.lag_messages, str(report.group_status), str(report.status))


def _is_due_early(topic: str, report: TopicReport, known: dict[str, Any]) -> bool:
    # Topics with lag are plotted also while nothing changes, so that a stopped group shows as a flat line.
    return not is_supporting(topic) and (report.lag_messages > 0 or known["shown"] != _signature(report))


def _has_changed(known: dict[str, Any], report: TopicReport) -> bool:
    """Return whether the result of a check has changed; changes are reported at once."""
    return any(
        known["checks"].get(name, (0.0, None))[1] != passed for name, (passed, _) in results(report).items()
    )


def _next(checks: dict[str, Any], report: TopicReport, now: float) -> Event:
    found = results(report)
    for name, (passed, text) in found.items():
        reported_at, reported = checks.get(name, (0.0, None))
        if reported != passed or now - reported_at >= _REPEAT_S:
            checks[name] = (now, passed)
            return dg.AssetCheckEvaluation(
                asset_key=topic_key(report.topic),
                check_name=name,
                passed=passed,
                severity=severity(report),
                description=text,
                metadata=topic_metadata(report),
            )
    return dg.AssetObservation(
        topic_key(report.topic), description=_sentence(found.values()), metadata=topic_metadata(report)
    )


def _sentence(found: Iterable[tuple[bool, str]]) -> str:
    return "; ".join(text for _, text in found)
