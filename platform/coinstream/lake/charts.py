"""Draw charts with altair: one small chart per series, as SVG without a script or a network."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import polars as pl

Points = Sequence[tuple[float, float]]
"""Moments in seconds since 1970, and values."""

WIDTH: Final = 640
"""Width of a chart in pixels."""
_ROW_HEIGHT: Final = 90
_UP, _DOWN = "#0f9d6e", "#d1453b"


def line_chart(title: str, unit: str, series: Mapping[str, Points]) -> Any:
    """Return one small chart per series, each on its own scale. Series without points are left out."""
    import altair as alt

    rows = [
        {"series": name, "time": datetime.fromtimestamp(at, UTC).isoformat(), unit: value}
        for name, points in series.items()
        for at, value in points
    ]
    if not rows:
        return _empty(f"{title} ({unit})")
    base = (
        alt.Chart(alt.InlineData(values=rows))
        .mark_line(point=alt.OverlayMarkDef(size=12), strokeWidth=1.4)
        .encode(
            x=_time_axis(),
            y=alt.Y(f"{unit}:Q", title=unit, scale=alt.Scale(zero=False), axis=alt.Axis(format=",~r")),
            tooltip=["series:N", "time:T", f"{unit}:Q"],
        )
        .properties(width=WIDTH, height=_ROW_HEIGHT)
    )
    return (
        base.facet(row=alt.Row("series:N", title=None, header=alt.Header(labelAngle=0, labelAlign="left")))
        .resolve_scale(y="independent")
        .properties(title=f"{title} ({unit})")
    )


def candlestick_chart(candles: pl.DataFrame, title: str) -> Any:
    """Return candlesticks above the volume of each candle.

    Args:
        candles: `time`, `open`, `high`, `low`, `close`, `volume`.
        title: the market.
    """
    import altair as alt

    if candles.is_empty():
        return _empty(title)
    data = alt.InlineData(values=_plain(candles))
    colour = alt.condition("datum.open <= datum.close", alt.value(_UP), alt.value(_DOWN))
    base = alt.Chart(data).encode(x=_time_axis(), color=colour)
    price = alt.Scale(zero=False)
    wicks = base.mark_rule().encode(y=alt.Y("low:Q", title="price", scale=price), y2="high:Q")
    bodies = base.mark_bar(size=5).encode(
        y="open:Q", y2="close:Q", tooltip=["time:T", "open:Q", "high:Q", "low:Q", "close:Q", "volume:Q"]
    )
    volume = base.mark_bar(size=5).encode(y=alt.Y("volume:Q", title="volume"))
    return alt.vconcat(
        (wicks + bodies).properties(width=WIDTH, height=260, title=title),
        volume.properties(width=WIDTH, height=70),
    ).resolve_scale(x="shared")


def over_time(frame: pl.DataFrame, value: str, series: str, title: str, unit: str) -> Any:
    """Return one small chart per value of the column `series`, over the column `time`."""
    found: dict[str, list[tuple[float, float]]] = {}
    for row in frame.iter_rows(named=True):
        if row[value] is not None:
            found.setdefault(str(row[series]), []).append((row["time"].timestamp(), float(row[value])))
    return line_chart(title, unit, found)


def to_svg(chart: Any) -> str:
    """Return the chart as SVG text."""
    import vl_convert

    return str(vl_convert.vegalite_to_svg(chart.to_dict(), vl_version=_vega_lite_version()))


def as_markdown(chart: Any, title: str) -> str:
    """Return the chart as an image inside Markdown."""
    return f"![{title}](data:image/svg+xml;base64,{base64.b64encode(to_svg(chart).encode()).decode()})"


def _time_axis() -> Any:
    import altair as alt

    axis = alt.Axis(format="%m-%d %H:%M:%S", tickCount=5, labelOverlap=True)
    return alt.X("time:T", title=None, scale=alt.Scale(type="utc"), axis=axis)


def _vega_lite_version() -> str:
    import altair as alt

    major, minor, *_ = alt.SCHEMA_VERSION.lstrip("v").split(".")
    return f"{major}.{minor}"


def _plain(frame: pl.DataFrame) -> list[dict[str, Any]]:
    return [
        {name: value.isoformat() if isinstance(value, datetime) else value for name, value in row.items()}
        for row in frame.iter_rows(named=True)
    ]


def _empty(title: str) -> Any:
    import altair as alt

    data = alt.InlineData(values=[{"text": "no data yet"}])
    return alt.Chart(data).mark_text(size=13).encode(text="text:N").properties(width=WIDTH, title=title)
