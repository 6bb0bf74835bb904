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
_FEW_POINTS: Final = 60
_FEWEST_CANDLES: Final = 20
_AXIS_WIDTH: Final = 84
_GRID_OPACITY: Final = 0.25
_TEXT_OF_IMAGES: Final = "#808080"
_UP, _DOWN = "#0f9d6e", "#d1453b"
_TIME_FORMATS: Final = (
    (600.0, "%H:%M:%S"),
    (86_400.0, "%H:%M"),
    (float("inf"), "%m-%d %H:%M"),
)
"""Formats of times by the longest span, in seconds, that each is used for."""


def line_chart(title: str, unit: str, series: Mapping[str, Points], *, width: int = WIDTH) -> Any:
    """Return one small chart per series, each on its own scale. Series without points are left out."""
    import altair as alt

    # Without its points, a series of few would be hard to see; those of a dense one would hide its line.
    rows = [
        {"series": name, "time": _iso(at), unit: value, "few": len(points) <= _FEW_POINTS}
        for name, points in series.items()
        for at, value in points
    ]
    if not rows:
        return _empty(f"{title} ({unit})", width)
    times = [at for points in series.values() for at, _ in points]
    base = alt.Chart(alt.InlineData(values=rows)).encode(
        x=_time_axis(max(times) - min(times)),
        y=alt.Y(f"{unit}:Q", title=None, scale=alt.Scale(zero=False), axis=_value_axis(",.6~r", tickCount=3)),
        tooltip=["series:N", "time:T", f"{unit}:Q"],
    )
    points = base.mark_point(size=14, filled=True).transform_filter("datum.few")
    layered = (base.mark_line(strokeWidth=1.4) + points).properties(width=width, height=_ROW_HEIGHT)
    # The name above its chart, so that charts with long names are as wide as others.
    header = alt.Header(labelAngle=0, labelOrient="top", labelAnchor="start", labelPadding=2)
    rowed = layered.facet(row=alt.Row("series:N", title=None, header=header)).resolve_scale(y="independent")
    return _styled(rowed.properties(title=f"{title} ({unit})"))


def candlestick_chart(candles: pl.DataFrame, title: str, *, minutes: int = 1, width: int = WIDTH) -> Any:
    """Return candlesticks above the volume of each candle.

    Args:
        candles: `time`, `open`, `high`, `low`, `close`, `volume`.
        title: the market.
        minutes: length of a candle.
        width: of the chart, in pixels.
    """
    import altair as alt

    if candles.is_empty():
        return _empty(title, width)
    rows = _candle_rows(candles, minutes)
    first, last = candles["time"][0].timestamp(), candles["time"][-1].timestamp() + 60 * minutes
    # A single candle is not drawn as wide as the chart.
    margin = max(60 * minutes * _FEWEST_CANDLES - (last - first), 0) / 2
    span, ends = last - first + 2 * margin, [_iso(first - margin), _iso(last + margin)]
    colour = alt.condition("datum.open <= datum.close", alt.value(_UP), alt.value(_DOWN))
    base = alt.Chart(alt.InlineData(values=rows)).encode(color=colour, stroke=colour)
    price = alt.Scale(zero=False, padding=8)
    prices = _value_axis(",.8~r")
    wicks = base.mark_rule().encode(
        x=_time_axis(span, "middle", ends),
        y=alt.Y("low:Q", title="price (quote currency)", scale=price, axis=prices),
        y2="high:Q",
    )
    # The outline makes a line of a body without height.
    bodies = base.mark_bar(strokeWidth=1).encode(
        x=_time_axis(span, "begin", ends),
        x2="end:T",
        y="open:Q",
        y2="close:Q",
        tooltip=["begin:T", "open:Q", "high:Q", "low:Q", "close:Q", "volume:Q"],
    )
    volume = base.mark_bar(strokeWidth=1).encode(
        x=_time_axis(span, "begin", ends),
        x2="end:T",
        y=alt.Y("volume:Q", title="volume (base)", axis=_value_axis(",.6~r", tickCount=3)),
        y2=alt.Y2Datum(0),
    )
    return _styled(
        alt.vconcat(
            (wicks + bodies).properties(width=width, height=260, title=title),
            volume.properties(width=width, height=70),
        ).resolve_scale(x="shared")
    )


def _candle_rows(candles: pl.DataFrame, minutes: int) -> list[dict[str, Any]]:
    """Return candles with the begin, middle and end of the bar that each is drawn as."""
    rows = []
    for row in candles.iter_rows(named=True):
        at, length = row["time"].timestamp(), 60.0 * minutes
        parts = {"begin": 0.1, "middle": 0.5, "end": 0.9}
        bar = {name: _iso(at + part * length) for name, part in parts.items()}
        rows.append({name: value for name, value in row.items() if name != "time"} | bar)
    return rows


def over_time(
    frame: pl.DataFrame, value: str, series: str, title: str, unit: str, *, width: int = WIDTH
) -> Any:
    """Return one small chart per value of the column `series`, over the column `time`."""
    found: dict[str, list[tuple[float, float]]] = {}
    for row in frame.iter_rows(named=True):
        if row[value] is not None:
            found.setdefault(str(row[series]), []).append((row["time"].timestamp(), float(row[value])))
    return line_chart(title, unit, found, width=width)


def to_svg(chart: Any, *, text_color: str = "currentColor") -> str:
    """Return the chart as SVG text.

    Args:
        chart: the chart.
        text_color: color of titles and labels. The default is the text color of the page that contains it.
    """
    import vl_convert

    labelled = {"labelColor": text_color, "titleColor": text_color}
    colored = (
        chart.configure_axis(gridOpacity=_GRID_OPACITY, **labelled)
        .configure_header(**labelled)
        .configure_title(color=text_color)
    )
    return str(vl_convert.vegalite_to_svg(colored.to_dict(), vl_version=_vega_lite_version()))


def as_markdown(chart: Any, title: str) -> str:
    """Return the chart as an image inside Markdown, readable on light and on dark pages."""
    svg = to_svg(chart, text_color=_TEXT_OF_IMAGES)
    return f"![{title}](data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()})"


def _value_axis(form: str, **options: Any) -> Any:
    """Return a vertical axis with room for long labels, so that charts on a page begin at the same place."""
    import altair as alt

    return alt.Axis(format=form, minExtent=_AXIS_WIDTH, maxExtent=2 * _AXIS_WIDTH, **options)


def _time_axis(span_s: float, field: str = "time", ends: Sequence[str] | None = None) -> Any:
    """Return an axis whose labels are as fine as its span needs."""
    import altair as alt

    form = next(form for longest, form in _TIME_FORMATS if span_s <= longest)
    axis = alt.Axis(format=form, tickCount=6, labelOverlap=True)
    scale = alt.Scale(type="utc") if ends is None else alt.Scale(type="utc", domain=list(ends))
    return alt.X(f"{field}:T", title="time (UTC)", scale=scale, axis=axis)


def _styled(chart: Any) -> Any:
    """Return the chart with pale grid lines and no background, for light and dark pages."""
    return chart.configure(background="transparent").configure_axis(gridOpacity=_GRID_OPACITY)


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat()


def _vega_lite_version() -> str:
    import altair as alt

    major, minor, *_ = alt.SCHEMA_VERSION.lstrip("v").split(".")
    return f"{major}.{minor}"


def _empty(title: str, width: int) -> Any:
    import altair as alt

    data = alt.InlineData(values=[{"text": "no data yet"}])
    drawn = alt.Chart(data).mark_text(size=13, color="gray").encode(text="text:N")
    return _styled(drawn.properties(width=width, height=_ROW_HEIGHT, title=title))
