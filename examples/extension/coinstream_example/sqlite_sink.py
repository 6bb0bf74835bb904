"""A sink of its own: quotes in a SQLite table, once each although they are delivered at least once."""

import sqlite3
from collections.abc import Sequence

from coinstream.consumer import ConsumedMessage
from coinstream.messages import Level1
from coinstream.sinks import SinkEntry, register_sink

_TABLE = """
CREATE TABLE IF NOT EXISTS quotes (
    topic TEXT, part INTEGER, position INTEGER, exchange TEXT, symbol TEXT, bid REAL, ask REAL, at TEXT,
    PRIMARY KEY (topic, part, position)
)
"""
_INSERT = "INSERT OR IGNORE INTO quotes VALUES (?, ?, ?, ?, ?, ?, ?, ?)"


class SqliteSink:
    """Writes Level1 messages; other kinds are left out."""

    def __init__(self, target: str) -> None:
        self._connection = sqlite3.connect(target, check_same_thread=False)
        self._connection.execute(_TABLE)

    def write(self, messages: Sequence[ConsumedMessage]) -> None:
        """See `Sink.write`: the primary key makes a repeated delivery harmless."""
        with self._connection:
            self._connection.executemany(_INSERT, [_row(item) for item in messages if _is_quote(item)])

    def close(self) -> None:
        """See `Sink.close`."""
        self._connection.close()


def _is_quote(received: ConsumedMessage) -> bool:
    return isinstance(received.message, Level1)


def _row(received: ConsumedMessage) -> tuple[object, ...]:
    quote = received.message
    assert isinstance(quote, Level1)
    position = (received.topic, received.partition, received.offset)
    return (
        *position,
        quote.exchange_id,
        quote.symbol,
        quote.best_bid,
        quote.best_ask,
        quote.timestamp.isoformat(),
    )


register_sink(SinkEntry("sqlite", "Quotes in the SQLite database TARGET", SqliteSink))
