"""Looks for partitions on which nothing moves, while others may go on."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable

from coinstream.consumer.metrics import Meter
from coinstream.consumer.options import StuckPartition
from coinstream.consumer.partition_state import Lane

log = logging.getLogger("coinstream.consumer")


def stuck(lanes: Iterable[Lane], after_s: float) -> list[tuple[Lane, StuckPartition]]:
    """The lanes that have work and have finished nothing for so long."""
    now = time.monotonic()
    found = []
    for lane in lanes:
        seconds = now - lane.progressed
        batch, done = lane.batch, lane.done
        if seconds >= after_s and lane.has_work:
            offset = batch[done].offset if done < len(batch) else -1
            found.append(
                (lane, StuckPartition(lane.topic, lane.partition, offset, round(seconds, 1), lane.failures))
            )
    return found


class Watch:
    """Reports each stuck message once: in the log, the metrics and to whoever asked for it."""

    def __init__(
        self, group: str, meter: Meter, after_s: float, tell: Callable[[StuckPartition], None] | None
    ) -> None:
        self._group = group
        self._meter = meter
        self._after_s = after_s
        self._tell = tell
        self._last: tuple[StuckPartition, ...] = ()

    @property
    def last(self) -> tuple[StuckPartition, ...]:
        """What the last look found."""
        return self._last

    def look(self, lanes: Iterable[Lane]) -> None:
        """Look now."""
        found = stuck(lanes, self._after_s)
        self._last = tuple(report for _, report in found)
        for lane, report in found:
            if lane.reported_at != report.offset:
                lane.reported_at = report.offset
                self._report(lane, report)

    def _report(self, lane: Lane, report: StuckPartition) -> None:
        self._meter.error(lane, "STUCK")
        log.error(
            "group %s: %s makes no progress at offset %d for %.0f s (%d failed attempts)",
            *(self._group, lane.name, report.offset, report.seconds, report.failures),
        )
        if self._tell is None:
            return
        try:
            self._tell(report)
        except Exception:
            log.exception("group %s: on_stuck failed", self._group)
