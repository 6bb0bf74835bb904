"""Summarize a dead-letter topic as the metadata of its page."""

from typing import Any, Final

from assets.failed_messages import Row, failure_tables
from coinstream.dlq import DeadLetterQueue, DeadLetterSummary, summarize
from coinstream.dlq.entry import DeadLetterEntry, DeadLetterFilter
from coinstream.errors import TopicError
from coinstream.settings import BrokerSettings
from coinstream.text import format_timestamp, readable

_TEXT: Final = 300
"""Length of a text in the table of newest entries."""


def dead_letter_metadata(summary: DeadLetterSummary) -> dict[str, Any]:
    """Return the metadata of a summary: counts, reasons and newest entries."""
    return {
        "dead_letters": summary.entries,
        "not_replayed": summary.waiting,
        **failure_tables(summary.reasons, "entries", map(_row, summary.newest)),
    }


def _row(entry: DeadLetterEntry) -> Row:
    dead_letter = entry.dead_letter
    return {
        "failed_at": format_timestamp(entry.failed_ms) or "",
        "from": dead_letter.origin,
        "key": readable(dead_letter.key)[:_TEXT],
        # Its text begins with its type.
        "error": dead_letter.error[:_TEXT] or dead_letter.error_type,
        "value": readable((dead_letter.value or b"")[:_TEXT]),
        "attempts": dead_letter.attempts,
        "group": dead_letter.group,
        "replayed": entry.is_replayed,
        "entry": f"{entry.partition}:{entry.offset}",
    }


def read_summary(brokers: BrokerSettings, topic: str, wanted: DeadLetterFilter) -> DeadLetterSummary | None:
    """Return the summary of a topic's selected dead letters, or None without a dead-letter topic."""
    try:
        return summarize(DeadLetterQueue(brokers, topic).read(wanted))
    except TopicError:
        return None
