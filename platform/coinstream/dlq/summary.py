"""Summarize the newest dead letters of a topic: how many, why, and which."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from coinstream.dlq.queue import DeadLetterEntry

_SHOWN: Final = 20


@dataclass(frozen=True)
class DeadLetterSummary:
    """Dead letters of one topic.

    Attributes:
        entries: number of entries that were read.
        waiting: those of them that have not been replayed.
        reasons: number of waiting entries by the type of their error, most frequent first.
        newest: the newest entries, newest first.
    """

    entries: int
    waiting: int
    reasons: Mapping[str, int]
    newest: tuple[DeadLetterEntry, ...]


def summarize(entries: Iterable[DeadLetterEntry], shown: int = _SHOWN) -> DeadLetterSummary:
    """Count entries as they come; only the newest are kept in memory."""
    count, reasons = 0, Counter[str]()
    newest: deque[DeadLetterEntry] = deque(maxlen=shown)
    for entry in entries:
        count += 1
        if not entry.is_replayed:
            reasons[entry.dead_letter.error_type or "unknown"] += 1
        if len(newest) < shown or entry.failed_ms >= newest[0].failed_ms:
            newest.append(entry)
            newest = deque(sorted(newest, key=lambda one: one.failed_ms), maxlen=shown)
    return DeadLetterSummary(count, reasons.total(), dict(reasons.most_common()), tuple(reversed(newest)))
