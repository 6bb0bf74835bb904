"""The lag sensor's cursor stays short and loses nothing that decides over the next event."""

from __future__ import annotations

import json
import logging
from typing import Any

from assets.topics import SPECS
from coinstream.monitoring.alerts import Hysteresis
from coinstream.monitoring.group_alerts import SensorCursor
from coinstream.monitoring.topic_report import TopicReport
from sensors.topic_events import topic_events
from sensors.topic_notes import pack, unpack

START = 1_795_707_349.25


def reports(records: int, *, leaderless: int = 0) -> dict[str, TopicReport]:
    """Return a report of every topic."""
    return {name: TopicReport(name, 6, records, None, leaderless, 0, ()) for name in SPECS}


def packed(notes: dict[str, Any]) -> dict[str, Any]:
    """Return notes after a cursor was written and read."""
    return unpack(json.loads(json.dumps(pack(notes))))


def test_the_same_events_are_due_after_the_notes_were_packed() -> None:
    plain: dict[str, Any] = {}
    short: dict[str, Any] = {}
    for number, (records, leaderless) in enumerate([(5, 0), (5, 0), (9, 0), (9, 2), (9, 2), (9, 0), (20, 0)]):
        now = START + 61 * number
        expected = topic_events(plain, reports(records, leaderless=leaderless), now, 60)
        found = topic_events(short, reports(records, leaderless=leaderless), now, 60)
        assert found == expected
        short = packed(short)


def test_the_cursor_of_all_topics_is_short() -> None:
    notes: dict[str, Any] = {}
    for number in range(5):
        topic_events(notes, reports(1_000 * number), START + 61 * number, 60)
    state = SensorCursor(Hysteresis(1, 1), notes={"topics": pack(notes)})
    cursor = state.dump(START)
    assert len(cursor) < 700
    read = SensorCursor.load(cursor, Hysteresis(1, 1), logging.getLogger())
    assert unpack(read.notes["topics"]).keys() == notes.keys()
