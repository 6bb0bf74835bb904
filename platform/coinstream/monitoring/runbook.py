"""Which section of the runbook an alert is about. `docs/runbook.md` has one for each."""

from __future__ import annotations

from enum import StrEnum

from coinstream.monitoring.group_evaluation import GroupStatus
from coinstream.settings import AlertSettings


class Section(StrEnum):
    """Sections that the sensors' alerts link to; the values are their headings' anchors."""

    GROUP_STOPPED = "a-group-has-stopped"
    GROUP_STALLED = "a-group-stands-still"
    GROUP_REWOUND = "a-group-went-back"
    GROUP_BEHIND = "a-group-falls-behind"
    CLUSTER = "the-cluster-is-unhealthy"
    PRODUCER = "the-producer-is-unhealthy"
    RUN = "a-run-failed"
    AUTOMATION = "a-sensor-or-schedule-failed"

    @property
    def address(self) -> str:
        """Where people read it."""
        return f"{AlertSettings().runbook_address}#{self.value}"


def section_of(status: GroupStatus) -> Section:
    """Return the section about a group with this status."""
    return {
        GroupStatus.STOP: Section.GROUP_STOPPED,
        GroupStatus.STALL: Section.GROUP_STALLED,
        GroupStatus.REWIND: Section.GROUP_REWOUND,
    }.get(status, Section.GROUP_BEHIND)
