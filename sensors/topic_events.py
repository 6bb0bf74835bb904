"""What the web UI plots of each topic: at most one event a minute and asset.

A change of the verdict is worth a check's evaluation; otherwise an observation with the figures is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import dagster as dg

from assets.topic_health import figures, results, severity
from assets.topics import SPECS, topic_key
from coinstream.observing.topic_report import TopicReport
from coinstream.settings import LagSettings

_AGAIN_S: Final = 3_600.0
"""An evaluation that does not change is repeated after this time, so that it never looks stale."""

Event = dg.AssetObservation | dg.AssetCheckEvaluation


def topic_events(
    notes: dict[str, Any],
    reports: Mapping[str, TopicReport],
    settings: LagSettings,
    now: float,
    every_s: float,
) -> list[Event]:
    """The events that are due. `notes` keeps, per topic, when the last one was and what the checks said."""
    due = []
    for topic in sorted(reports.keys() & SPECS.keys()):
        known = notes.setdefault(topic, {"at": 0.0, "checks": {}})
        if now - known["at"] >= every_s:
            known["at"] = now
            due.append(_next(known["checks"], reports[topic], settings, now))
    for gone in notes.keys() - reports.keys():
        del notes[gone]
    return due


def _next(checks: dict[str, Any], report: TopicReport, settings: LagSettings, now: float) -> Event:
    found = results(report, settings)
    for name, (passed, text) in found.items():
        said_at, said = checks.get(name, (0.0, None))
        if said != passed or now - said_at >= _AGAIN_S:
            checks[name] = (now, passed)
            return dg.AssetCheckEvaluation(
                asset_key=topic_key(report.topic),
                check_name=name,
                passed=passed,
                severity=severity(report),
                description=text,
                metadata=figures(report),
            )
    return dg.AssetObservation(
        topic_key(report.topic), description=_sentence(found.values()), metadata=figures(report)
    )


def _sentence(found: Iterable[tuple[bool, str]]) -> str:
    return "; ".join(text for _, text in found)
