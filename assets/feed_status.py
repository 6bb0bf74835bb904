"""Show the status of a feed on the page of its exchange: connection, rate, gaps, and each symbol's age."""

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import dagster as dg

from coinstream.feeds.status import FeedStatus, SymbolStatus, read_all

_SYMBOLS: Final = dg.TableSchema(
    [
        dg.TableColumn("symbol"),
        dg.TableColumn("connected", "bool", "Whether the connection that carries the symbol is open."),
        dg.TableColumn("messages", "int", "Messages since the start of the feed."),
        dg.TableColumn("messages_per_second", "float"),
        dg.TableColumn("last_message", description="When the newest message was received, in UTC."),
        dg.TableColumn("stale_seconds", "float", "Seconds since then; -1 before the first message."),
        dg.TableColumn("gaps", "int", "Gaps in the symbol's streams."),
        dg.TableColumn("unrecovered", "int", "Gaps that could not be filled."),
        dg.TableColumn("reconnects", "int", "Times that its connection was opened again."),
    ]
)


def status_of(folder: Path, feed: str) -> FeedStatus | None:
    """Return the newest status of a feed on this machine; None before its first."""
    return next((one for one in read_all(folder) if one.feed == feed), None)


def sentence(status: FeedStatus) -> str:
    """Return the status in words."""
    state = "ended" if status.ended else "connected" if status.connected else "not connected"
    trouble = f"; {status.trouble}" if status.trouble else ""
    return (
        f"{status.feed} {state}: {status.messages:,} messages, {status.rate:,.0f}/s, {status.gaps} gap(s), "
        f"{status.reconnects} reconnect(s){trouble}"
    )


def feed_metadata(status: FeedStatus, now: float | None = None) -> dict[str, Any]:
    """Return the metadata of a status: numbers, which the web UI plots, and a row for each symbol."""
    at = time.time() if now is None else now
    rows = [_row(name, one, at) for name, one in status.symbols.items()]
    stale = [at - one.last_message for one in status.symbols.values() if one.last_message]
    return {
        "feed": status.feed,
        "connected": status.connected,
        "ended": status.ended,
        "messages": status.messages,
        "messages_per_second": status.rate,
        "gaps": status.gaps,
        "gaps_recovered": status.recovered,
        "gaps_unrecovered": status.unrecovered,
        "frozen": status.frozen,
        "reconnects": status.reconnects,
        "trouble": status.trouble or "none",
        "symbols": dg.MetadataValue.table(rows, schema=_SYMBOLS) if rows else dg.MetadataValue.md("none"),
        **({"stale_seconds": round(max(0.0, *stale), 1)} if stale else {}),
    }


def _row(name: str, one: SymbolStatus, now: float) -> dg.TableRecord:
    moment = datetime.fromtimestamp(one.last_message, UTC) if one.last_message else None
    return dg.TableRecord(
        {
            "symbol": name or "(none)",
            "connected": one.connected,
            "messages": one.messages,
            "messages_per_second": one.rate,
            "last_message": f"{moment:%Y-%m-%dT%H:%M:%SZ}" if moment else "",
            "stale_seconds": round(max(now - one.last_message, 0.0), 1) if moment else -1.0,
            "gaps": one.gaps,
            "unrecovered": one.unrecovered,
            "reconnects": one.reconnects,
        }
    )
