"""Write the tables of docs/scaling.md about Ray from one report of its bench.

coinstream bench land --engine ray --workers 2 --repetitions 1 --json > ray.json
python -m scripts.ray_figures ray.json
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import Any, Final

from scripts.figures import ROOT, shown, with_table

CORES: Final = (16, 64, 256)
RATES: Final = (1_000_000, 10_000_000)
PARTITIONS_PER_CORE: Final = 2
"""Fewer would leave workers without a slice while the largest partitions are read."""
SLICE_ROWS: Final = 1_000_000
"""The default of `COINSTREAM_LAKE_SLICE_ROWS`."""
DRIVER_SLICE_S: Final = 0.006
"""Processor time of the driver per slice: submitting it, taking its result, its part of a commit."""
STORED_BYTES: Final = 50
"""Bytes of a compressed message on the wire, about; `coinstream bench scale` measures them."""


def main(arguments: Sequence[str]) -> None:
    """Replace the tables in the page by those of the report named on the command line."""
    if len(arguments) != 1:
        sys.exit("usage: python -m scripts.ray_figures ray.json")
    found = json.loads(Path(arguments[0]).read_text(encoding="utf-8"))
    page = ROOT / "docs" / "scaling.md"
    text = page.read_text(encoding="utf-8")
    for marker, table in {"ray": costs(found), "ray-cores": cores(found), "ray-rates": rates(found)}.items():
        text = with_table(text, marker, table)
    page.write_text(text, encoding="utf-8")


def costs(found: Mapping[str, Any]) -> str:
    """Return the table of what was measured."""
    facts = found["machine"]
    rows = [
        ("a row, embedded", "µs of processor time", found["embedded_cpu_us_per_row"]),
        (f"a row, {found['slices']} slices on Ray", "µs of processor time", found["cpu_us_per_row"]),
        (
            f"a row, {found['many_slices']} slices on Ray",
            "µs of processor time",
            found["many_slices_cpu_us_per_row"],
        ),
        (
            f"{found['many_slices']} slices against {found['slices']}",
            "times the processor time",
            found["many_slices_cpu_ratio"],
        ),
        ("a slice", "ms of processor time", found["slice_cpu_ms"]),
        *(
            (f"a commit of {int(files):,} files", "ms on the clock", ms)
            for files, ms in found["commit_ms"].items()
        ),
        ("start of a cluster on one machine", "s on the clock", found["startup_s"]),
        (f"rate with {found['workers']} workers", "rows/s", found["messages_per_second"]),
    ]
    return "\n".join(
        [
            "| what | unit | figure |",
            "|---" * 3 + "|",
            *(f"| {what} | {unit} | {shown(float(figure), '')} |" for what, unit, figure in rows),
            "",
            f"{found['messages']:,} rows in 48 partitions on {str(facts['at'])[:10]}: {facts['cores']} "
            f"cores, shared with the broker and the driver; load average {facts['load_1m']:g}.",
        ]
    )


def cores(found: Mapping[str, Any]) -> str:
    """Return what a number of cores lands, at the cost of a row in many slices, and what is needed for it."""
    cost_s = float(found["many_slices_cpu_us_per_row"]) / 1e6
    lines = [
        "| cores of workers | rows/s | partitions | driver, share of a core | MB/s read from brokers |",
        "|---" * 5 + "|",
    ]
    for count in CORES:
        rate = count / cost_s
        driver = rate / SLICE_ROWS * DRIVER_SLICE_S
        lines.append(
            f"| {count} | {rate:,.0f} | {count * PARTITIONS_PER_CORE} | {driver:.1%} | "
            f"{rate * STORED_BYTES / 1e6:,.0f} |"
        )
    return "\n".join(lines)


def rates(found: Mapping[str, Any]) -> str:
    """Return the cores that a rate of messages needs."""
    one, many = (
        float(found[name]) / 1e6 for name in ("embedded_cpu_us_per_row", "many_slices_cpu_us_per_row")
    )
    lines = [
        "| messages/s | cores embedded | cores on Ray | partitions | MB/s read from brokers "
        "| rows per landing of 5 min |",
        "|---" * 6 + "|",
    ]
    for rate in RATES:
        needed = rate * many
        partitions = max(ceil(needed) * PARTITIONS_PER_CORE, 1)
        lines.append(
            f"| {rate:,} | {rate * one:,.1f} | {needed:,.1f} | {partitions} | "
            f"{rate * STORED_BYTES / 1e6:,.0f} | {rate * 300:,} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main(sys.argv[1:])
