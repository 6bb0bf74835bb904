"""When an alarm is raised and when it is cleared: once each, however a measurement flaps. Pure rules."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

_LONGEST_PATIENCE = 32


class Change(StrEnum):
    """What an observation changed."""

    NONE = "none"
    RAISED = "raised"
    CLEARED = "cleared"


@dataclass(frozen=True)
class Hysteresis:
    """How many observations in a row convince.

    Attributes:
        confirm: bad ones before an alarm is raised. Doubles with every alarm of the last `memory_s`
            seconds: who flaps must stay bad for longer to be heard again.
        recover: good ones before it is cleared.
        memory_s: for how long an alarm counts against its subject, in seconds.
    """

    confirm: int = 2
    recover: int = 2
    memory_s: float = 3_600.0


@dataclass(frozen=True)
class Alarm:
    """State of one subject. `since`: when it was first seen bad, seconds since the epoch."""

    raised: bool = False
    streak: int = 0
    since: float | None = None
    raises: tuple[float, ...] = ()

    def step(self, bad: bool, now: float, hysteresis: Hysteresis) -> tuple[Alarm, Change]:
        """Take an observation in."""
        if bad == self.raised:
            # What was expected: a streak to the contrary is broken.
            return replace(self, streak=0, since=self.since if self.raised else None), Change.NONE
        streak = self.streak + 1
        since = self.since if self.since is not None else now
        if streak < self._patience(now, hysteresis):
            return replace(self, streak=streak, since=since), Change.NONE
        if bad:
            recent = (*self._recent(now, hysteresis), now)
            return Alarm(True, 0, since, recent), Change.RAISED
        return Alarm(False, 0, None, self._recent(now, hysteresis)), Change.CLEARED

    @property
    def is_idle(self) -> bool:
        """Nothing to remember."""
        return not self.raised and not self.streak and not self.raises

    def aged(self, now: float, hysteresis: Hysteresis) -> Alarm:
        """Without the alarms that are too old to count."""
        return replace(self, raises=self._recent(now, hysteresis))

    def dump(self) -> dict[str, Any]:
        """As plain values for JSON."""
        return asdict(self)

    @classmethod
    def load(cls, dumped: dict[str, Any]) -> Alarm:
        """Return what `dump` wrote.

        Raises:
            TypeError, KeyError: it is something else.
        """
        return cls(**{**dumped, "raises": tuple(dumped["raises"])})

    def _patience(self, now: float, hysteresis: Hysteresis) -> int:
        if self.raised:
            return hysteresis.recover
        doubled = 1 << min(len(self._recent(now, hysteresis)), 5)
        return min(hysteresis.confirm * doubled, max(hysteresis.confirm, _LONGEST_PATIENCE))

    def _recent(self, now: float, hysteresis: Hysteresis) -> tuple[float, ...]:
        return tuple(at for at in self.raises if now - at <= hysteresis.memory_s)
