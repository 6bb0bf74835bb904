"""Looks for partitions on which nothing moves, while others may go on."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable

from coinstream.consumer.metrics import ConsumerMetrics
from coinstream.consumer.options import StuckPartition
from coinstream.consumer.partition_state import PartitionState

log = logging.getLogger("coinstream.consumer")


def stuck(states: Iterable[PartitionState], after_s: float) -> list[tuple[PartitionState, StuckPartition]]:
    """The states that have work and have finished nothing for so long."""
    now = time.monotonic()
    found = []
    for state in states:
        seconds = now - state.progressed
        batch, done = state.batch, state.done
        if seconds >= after_s and state.has_work:
            offset = batch[done].offset if done < len(batch) else -1
            found.append(
                (
                    state,
                    StuckPartition(state.topic, state.partition, offset, round(seconds, 1), state.failures),
                )
            )
    return found


class StallDetector:
    """Reports each stuck message once: in the log, the metrics and to whoever asked for it."""

    def __init__(
        self,
        group: str,
        metrics: ConsumerMetrics,
        after_s: float,
        tell: Callable[[StuckPartition], None] | None,
    ) -> None:
        self._group = group
        self._metrics = metrics
        self._after_s = after_s
        self._tell = tell
        self._last: tuple[StuckPartition, ...] = ()

    @property
    def last(self) -> tuple[StuckPartition, ...]:
        """What the last look found."""
        return self._last

    def look(self, states: Iterable[PartitionState]) -> None:
        """Look now."""
        found = stuck(states, self._after_s)
        self._last = tuple(report for _, report in found)
        for state, report in found:
            if state.reported_at != report.offset:
                state.reported_at = report.offset
                self._report(state, report)

    def _report(self, state: PartitionState, report: StuckPartition) -> None:
        self._metrics.error(state, "STUCK")
        log.error(
            "group %s: %s makes no progress at offset %d for %.0f s (%d failed attempts)",
            *(self._group, state.name, report.offset, report.seconds, report.failures),
        )
        if self._tell is None:
            return
        try:
            self._tell(report)
        except Exception:
            log.exception("group %s: on_stuck failed", self._group)
