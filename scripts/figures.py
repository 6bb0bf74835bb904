"""Write the tables of figures in the README and in the documentation from one run of all benches.

    coinstream bench all --json > bench.json
    python scripts/figures.py bench.json

`make figures` does both. Every figure comes from that run; do not edit the tables by hand.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import Any, Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parents[1]


class Row(NamedTuple):
    """One line of the table. Keys are paths into the report of a bench, parts separated by dots.

    Attributes:
        what: what is measured; may hold `{key}` of a figure of the bench.
        unit: of both figures.
        bench: the name of the bench.
        figure: key of coinstream's figure.
        other: what it is compared with; empty: nothing.
        other_figure: key of the other figure.
        ratio: key of the ratio; empty: none.
    """

    what: str
    unit: str
    bench: str
    figure: str
    other: str = ""
    other_figure: str = ""
    ratio: str = ""


ROWS: Final = (
    Row(
        *("produce typed messages", "messages/s", "produce", "messages_per_second"),
        *("typed work by hand", "typed_by_hand_messages_per_second", "typed_by_hand_ratio"),
    ),
    Row(
        *("produce typed messages", "µs of processor time per message", "produce", "cpu_us_per_message"),
        *("by hand, same wire contract", "same_wire_cpu_us_per_message", "same_wire_cpu_ratio"),
    ),
    Row(
        *("produce typed messages", "messages/s", "produce", "messages_per_second"),
        *("pre-encoded payloads", "raw_messages_per_second", "ratio"),
    ),
    Row(
        *("latency at 50,000 messages/s, p50", "ms", "latency", "p50_ms"),
        *("bare client", "raw_p50_ms", ""),
    ),
    Row(
        *("latency at 50,000 messages/s, p99", "ms", "latency", "p99_ms"),
        *("bare client", "raw_p99_ms", ""),
    ),
    Row(
        *("consume with a typed handler", "messages/s", "consume", "messages_per_second"),
        *("bare loop that decodes nothing", "raw_messages_per_second", "ratio"),
    ),
    Row(
        *(
            "feed, websocket to acknowledgement",
            "µs of processor time per quote",
            "feeds",
            "cpu_us_per_message",
        ),
        *("parse and produce by hand", "raw_cpu_us_per_message", "cpu_ratio"),
    ),
    Row(
        *("land in Iceberg, every row checked", "rows/s", "land", "messages_per_second"),
        *("bare loop to Parquet", "raw_messages_per_second", "ratio"),
    ),
    Row(
        *("build candles", "µs of processor time per row", "candles", "cpu_us_per_row"),
        *("Polars by hand", "raw_cpu_us_per_row", ""),
    ),
    Row(
        *("64 exchange topics instead of one", "times the cost per message", "scale", "topics_growth"),
        *("typed work by hand", "typed_by_hand_topics_growth", ""),
    ),
    Row("growth of memory over {messages:,} messages", "%", "soak", "growth"),
)


_PRODUCING: Final = {
    "partitions": "partitions of one topic, 1,000 symbols",
    "exchanges": "exchanges, a topic of 6 partitions and 100 symbols each",
    "symbols": "symbols of one topic, 48 partitions",
}
_PRODUCED: Final = (
    *("cpu_us_per_message", "typed_by_hand_cpu_us_per_message", "raw_cpu_us_per_message"),
    "messages_per_second",
)
_CONSUMING: Final = {
    "members": "members of one group, 48 partitions",
}
_CONSUMED: Final = ("cpu_us_per_message", "raw_cpu_us_per_message")


def main(arguments: Sequence[str]) -> None:
    """Replace the tables in the pages by those of the report named on the command line."""
    if len(arguments) != 1:
        sys.exit("usage: python scripts/figures.py bench.json")
    results = json.loads(Path(arguments[0]).read_text(encoding="utf-8"))
    pages = {
        "README.md": {"figures": table(results)},
        "docs/benchmarks.md": {"figures": table(results)},
        "docs/scaling.md": {"costs": costs(results), "sizing": sizing(results)},
    }
    for name, tables in pages.items():
        page = ROOT / name
        text = page.read_text(encoding="utf-8")
        for marker, new in tables.items():
            text = with_table(text, marker, new)
        page.write_text(text, encoding="utf-8")


def with_table(text: str, marker: str, new: str) -> str:
    """Return a page with the table behind a marker replaced; a missing end marker is added.

    Raises:
        ValueError: the page does not have the marker.
    """
    begin, end = f"<!-- {marker} -->", f"<!-- /{marker} -->"
    if begin not in text:
        raise ValueError(f"no {begin} in the page")
    block = f"{begin}\n{new}\n{end}"
    if end in text:
        return re.sub(rf"{re.escape(begin)}.*?{re.escape(end)}", lambda _: block, text, flags=re.DOTALL)
    return text.replace(begin, block)


def costs(results: Mapping[str, Any]) -> str:
    """Return the tables of `bench scale`: processor time per message against each dimension."""
    parts = []
    for name, what in _PRODUCING.items():
        parts += [
            f"| {what} | coinstream, µs | typed by hand, µs | pre-encoded, µs | messages/s |",
            "|---" * 5 + "|",
        ]
        parts += [_cells(count, found, _PRODUCED) for count, found in value(results, "scale", name).items()]
        parts.append("")
    for name, what in _CONSUMING.items():
        parts += [f"| {what} | coinstream, µs | bare, µs |", "|---" * 3 + "|"]
        parts += [_cells(count, found, _CONSUMED) for count, found in value(results, "scale", name).items()]
        parts.append("")
    parts += ["| shards of a feed | coinstream, µs | messages/s |", "|---" * 3 + "|"]
    keys = ("cpu_us_per_message", "messages_per_second")
    parts += [_cells(count, found, keys) for count, found in value(results, "scale", "feed_shards").items()]
    return "\n".join(parts)


def _cells(count: str, found: Mapping[str, float], keys: Sequence[str]) -> str:
    return "| " + " | ".join([f"{int(count):,}", *(shown(found[key], "") for key in keys)]) + " |"


def sizing(results: Mapping[str, Any]) -> str:
    """Return what three rates need, computed from the costs per message."""
    feed = float(value(results, "feeds", "cpu_us_per_message"))
    consumer = float(value(results, "scale", "members.1.cpu_us_per_message"))
    stored = float(value(results, "scale", "stored_bytes_per_message"))
    rates = (50_000, 1_000_000, 10_000_000)
    share = 0.6  # of a core; bursts, rebalances and garbage collection need the rest
    rows: list[tuple[str, list[str]]] = [
        ("processor cores of feeds", [f"{n * feed / 1e6:,.1f}" for n in rates]),
        ("feed processes, each 60 % of a core", [f"{ceil(n * feed / 1e6 / share):,}" for n in rates]),
        ("processor cores of one group", [f"{n * consumer / 1e6:,.1f}" for n in rates]),
        (
            "members of that group, each 60 % of a core",
            [f"{ceil(n * consumer / 1e6 / share):,}" for n in rates],
        ),
        ("MB per second into the cluster", [f"{n * stored / 1e6:,.1f}" for n in rates]),
        ("TB per day on disk, replication 3", [f"{n * stored * 3 * 86_400 / 1e12:,.1f}" for n in rates]),
    ]
    head = "| | " + " | ".join(f"{rate:,} messages/s" for rate in rates) + " |"
    return "\n".join([head, "|---" * 4 + "|", *(f"| {name} | {' | '.join(cells)} |" for name, cells in rows)])


def table(results: Mapping[str, Any]) -> str:
    """Return the table of the report of `coinstream bench all --json`.

    Raises:
        ValueError: a figure is missing. Names the bench and the key.
    """
    facts = value(results, "produce", "machine")
    load = next(iter(results.values()))["load_before"]
    busy = max(float(value(results, name, "other_cores_busy")) for name in results)
    quick = " --quick" if any(found.get("quick") for found in results.values()) else ""
    lines = [
        "| measurement | unit | coinstream | compared with | its figure | ratio | command |",
        "|---|---|---|---|---|---|---|",
        *(line(row, results) for row in ROWS),
        "",
        f"One run of `coinstream bench all{quick}` on {str(facts['at'])[:10]}: {facts['cores']} cores, "
        f"shared with the broker; Python {facts['python']}, librdkafka {facts['librdkafka']}. The load "
        f"average was {load:g} before the run. Other processes took at most {busy:g} cores during a bench.",
    ]
    return "\n".join(lines)


def line(row: Row, results: Mapping[str, Any]) -> str:
    """Return one line of the table."""
    what = row.what.format_map(results.get(row.bench, {}))
    cells = [what, row.unit, shown(value(results, row.bench, row.figure), row.unit), row.other]
    cells.append(shown(value(results, row.bench, row.other_figure), row.unit) if row.other_figure else "")
    cells.append(shown(value(results, row.bench, row.ratio), "") if row.ratio else "")
    return "| " + " | ".join([*cells, f"`coinstream bench {row.bench}`"]) + " |"


def value(results: Mapping[str, Any], bench: str, key: str) -> Any:
    """Return a figure of a bench.

    Raises:
        ValueError: it is not there.
    """
    found: Any = results.get(bench)
    for part in key.split("."):
        if not isinstance(found, Mapping) or part not in found:
            raise ValueError(f"bench {bench} has no figure {key}; run `coinstream bench all --json` again")
        found = found[part]
    return found


def shown(figure: float, unit: str) -> str:
    """Return a figure as text: whole numbers with separators, others with two digits."""
    if unit == "%":
        return f"{figure * 100:.1f}"
    return f"{figure:,.0f}" if figure >= 1000 else f"{figure:.2f}"


if __name__ == "__main__":
    main(sys.argv[1:])
