"""Line charts as SVG: a picture that any page shows, without a script and without a network."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from typing import Final

Points = Sequence[tuple[float, float]]
"""Moments in seconds since 1970, and values."""

_WIDTH: Final = 760
_HEIGHT: Final = 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 76, 16, 34, 30
_COLOURS: Final = ("#2563eb", "#dc2626", "#059669", "#d97706", "#7c3aed", "#0891b2", "#be185d", "#4d7c0f")


def line_chart(title: str, unit: str, series: Mapping[str, Points]) -> str:
    """One line a series over time, with axes and a legend. Series without points are left out."""
    drawn = {name: points for name, points in series.items() if points}
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'font-family="sans-serif" font-size="11"><title>{escape(title)}</title>',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        f'<text x="8" y="16" font-size="13" font-weight="bold">{escape(title)} ({escape(unit)})</text>',
    ]
    if not drawn:
        parts.append(
            f'<text x="{_WIDTH // 2}" y="{_HEIGHT // 2}" text-anchor="middle">no data yet</text></svg>'
        )
        return "".join(parts)
    scale = _Scale([point for points in drawn.values() for point in points])
    parts += scale.axes()
    for at, (name, points) in enumerate(drawn.items()):
        colour = _COLOURS[at % len(_COLOURS)]
        path = " ".join(f"{scale.x(t):.1f},{scale.y(v):.1f}" for t, v in points)
        parts.append(f'<polyline fill="none" stroke="{colour}" stroke-width="1.4" points="{path}"/>')
        if len(points) == 1:
            parts.append(
                f'<circle cx="{scale.x(points[0][0]):.1f}" cy="{scale.y(points[0][1]):.1f}" r="3" '
                f'fill="{colour}"/>'
            )
        legend_x = _LEFT + 170 * (at % 4)
        legend_y = 28 + 12 * (at // 4)
        parts.append(f'<text x="{legend_x}" y="{legend_y}" fill="{colour}">— {escape(name[:28])}</text>')
    return "".join([*parts, "</svg>"])


def as_markdown(svg: str, title: str) -> str:
    """The chart as an image inside of Markdown."""
    return f"![{title}](data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()})"


class _Scale:
    def __init__(self, points: Points) -> None:
        times, values = [t for t, _ in points], [v for _, v in points]
        self._first, self._last = min(times), max(times)
        self._low, self._high = min(values), max(values)
        if self._first == self._last:
            self._first, self._last = self._first - 30, self._last + 30
        if self._low == self._high:
            margin = abs(self._low) * 0.01 or 1.0
            self._low, self._high = self._low - margin, self._high + margin

    def x(self, at: float) -> float:
        return _LEFT + (at - self._first) / (self._last - self._first) * (_WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        share = (value - self._low) / (self._high - self._low)
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM - 8)

    def axes(self) -> list[str]:
        parts = []
        for step in range(5):
            value = self._low + (self._high - self._low) * step / 4
            y = self.y(value)
            parts.append(
                f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#e5e7eb"/>'
            )
            parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{_short(value)}</text>')
            at = self._first + (self._last - self._first) * step / 4
            anchor = ("start", "middle", "middle", "middle", "end")[step]
            moment = datetime.fromtimestamp(at, UTC)
            parts.append(
                f'<text x="{self.x(at):.1f}" y="{_HEIGHT - 10}" text-anchor="{anchor}">'
                f"{moment:%m-%d %H:%M:%S}</text>"
            )
        return parts


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.5g}"
