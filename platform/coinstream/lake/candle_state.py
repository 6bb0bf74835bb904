"""Store the progress of the candles of a source."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

Hours = dict[str, set[datetime]]
"""Hours by exchange."""


@dataclass
class CandleState:
    """Progress of the candles of one source.

    Attributes:
        seen: landing time of the newest processed row.
        open: hours with candles that are not final, by exchange.
        marks: watermark (newest event time) of each exchange.
    """

    seen: datetime | None = None
    open: Hours = field(default_factory=dict)
    marks: dict[str, datetime] = field(default_factory=dict)

    @classmethod
    def of(cls, stored: dict[str, Any], suffix: str, latest: datetime) -> CandleState:
        """Read the state from the table's properties, with watermarks of at most `latest`."""
        if not stored:
            return cls()
        times = {
            name.removesuffix(f"-{suffix}"): datetime.fromisoformat(at)
            for name, at in stored.get("marks", {}).items()
        }
        marks = {name: min(at, latest) for name, at in times.items()}
        hours = stored.get("open", {})
        if isinstance(hours, list):  # of an earlier release, which did not tell exchanges apart
            hours = dict.fromkeys(marks, hours)
        opened = {name: {datetime.fromisoformat(at) for at in each} for name, each in hours.items()}
        return cls(datetime.fromisoformat(stored["seen"]), opened, marks)

    def as_stored(self) -> dict[str, Any]:
        """Return the state for the table's properties."""
        return {
            "seen": self.seen.isoformat() if self.seen else None,
            "open": {name: sorted(at.isoformat() for at in hours) for name, hours in self.open.items()},
            "marks": {name: at.isoformat() for name, at in self.marks.items()},
        }
