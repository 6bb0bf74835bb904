"""Write a self-contained HTML page with charts of price, spread, latency and landing lag."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any, Final

from coinstream.errors import LakeError
from coinstream.lake import statistics
from coinstream.lake.charts import line_chart, to_svg
from coinstream.lake.store import Lake
from coinstream.lake.summary import summaries

_STYLE: Final = (
    "body{font-family:sans-serif;margin:2em auto;max-width:800px;color:#111827}"
    "table{border-collapse:collapse;margin:1em 0}td,th{padding:.3em .8em;border-bottom:1px solid #e5e7eb;"
    "text-align:right}td:first-child,th:first-child{text-align:left}svg{width:100%;margin:.6em 0}"
)


@dataclass(frozen=True)
class Written:
    """A written report."""

    path: str
    charts: int
    tables: int


def write_report(lake: Lake, path: Path, *, hours: float = 24.0) -> Written:
    """Write the page.

    Raises:
        LakeError: the tables cannot be read, or the file cannot be written.
    """
    charts = [
        line_chart("Middle of bid and ask", "quote currency", statistics.price_series(lake, hours)),
        line_chart("Spread", "basis points", statistics.spread_series(lake, hours)),
        line_chart("Exchange to receipt", "ms", statistics.latency_series(lake, hours)),
        line_chart("Receipt to table", "s", statistics.lag_series(lake, hours)),
    ]
    found = summaries(lake)
    try:
        path.write_text(_page(lake, [to_svg(chart) for chart in charts], found, hours), encoding="utf-8")
    except OSError as error:
        raise LakeError(f"cannot write the report to {path}: {error.strerror}") from error
    return Written(str(path), len(charts), len(found))


def _page(lake: Lake, charts: Sequence[str], found: Iterable[Any], hours: float) -> str:
    tables = _table(
        ("table", "rows", "files", "newest event"),
        [(one.name, f"{one.rows:,}", one.files, one.newest_event or "") for one in found],
    )
    exchanges = _table(
        ("exchange", "quotes", "spread bp p50", "p99", "receipt ms p50", "p99", "landing s p50", "p99"),
        [
            (
                one.exchange,
                f"{one.quotes:,}",
                *(f"{value:.3g}" for value in (one.spread_bp_p50, one.spread_bp_p99)),
                *(f"{value:.0f}" for value in (one.receipt_ms_p50, one.receipt_ms_p99)),
                *(f"{value:.1f}" for value in (one.landing_s_p50, one.landing_s_p99)),
            )
            for one in statistics.exchange_statistics(lake, hours)
        ],
    )
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>coinstream</title>'
        f"<style>{_STYLE}</style>"
        f"<h1>coinstream</h1><p>The newest {hours:g} hours of the tables, "
        f"written {datetime.now(UTC):%F %T} UTC.</p>"
        f"{''.join(charts)}<h2>Exchanges</h2>{exchanges}<h2>Tables</h2>{tables}</html>"
    )


def _table(names: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table><tr>{head}</tr>{body}</table>"
