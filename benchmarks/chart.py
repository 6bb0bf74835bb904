"""Bars as SVG, legible on a light page and on a dark one."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Final

WIDTH: Final = 760
_LABELS: Final = 250
_FIGURES: Final = 80
_BAR: Final = 18
_GAP: Final = 6
_COLOURS: Final = ("#7c3aed", "#64748b", "#94a3b8", "#94a3b8", "#94a3b8")
_STYLE: Final = (
    "text{font:13px system-ui,sans-serif;fill:#1f2937}.t{font-weight:600;font-size:15px}"
    ".g{font-weight:600}.p{fill:#fff}"
    "@media(prefers-color-scheme:dark){text{fill:#e5e7eb}.p{fill:#111827}}"
)


def bars(title: str, groups: Mapping[str, Mapping[str, float]]) -> str:
    """One block of bars a group, all to one scale."""
    most = max(value for group in groups.values() for value in group.values())
    lines = [f'<text class="t" x="12" y="24">{escape(title)}</text>']
    y = 48
    for name, group in groups.items():
        lines.append(f'<text class="g" x="12" y="{y}">{escape(name)}</text>')
        y += 10
        for colour, (label, value) in zip(_COLOURS, group.items(), strict=False):
            lines += _bar(y, colour, label, value, value / most)
            y += _BAR + _GAP
        y += 28
    height = y - 16
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'aria-label="{escape(title)}"><style>{_STYLE}</style>'
        f'<rect class="p" width="{WIDTH}" height="{height}" rx="6"/>\n' + "\n".join(lines) + "\n</svg>\n"
    )


def _bar(y: int, colour: str, label: str, value: float, share: float) -> list[str]:
    width = max(round(share * (WIDTH - _LABELS - _FIGURES - 12)), 1)
    baseline = y + _BAR - 5
    return [
        f'<text x="{_LABELS - 8}" y="{baseline}" text-anchor="end">{escape(label)}</text>',
        f'<rect x="{_LABELS}" y="{y}" width="{width}" height="{_BAR}" rx="2" fill="{colour}"/>',
        f'<text x="{_LABELS + width + 6}" y="{baseline}">{value:,.0f}</text>',
    ]
