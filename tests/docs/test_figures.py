"""Test that the table of figures follows from one report of the benchmarks."""

from __future__ import annotations

from typing import Any

import pytest

from coinstream.cli.bench import BENCHES
from scripts.figures import ROOT, ROWS, costs, sizing, table, with_table


def report() -> dict[str, dict[str, Any]]:
    machine = {"at": "2026-01-05T10:00:00+00:00", "cores": 2, "python": "3.11.7", "librdkafka": "2.16.0"}
    found: dict[str, dict[str, Any]] = {
        name: {"load_before": 0.4, "other_cores_busy": 0.1, "machine": machine} for name in BENCHES
    }
    for number, row in enumerate(ROWS):
        for key in filter(None, (row.figure, row.other_figure, row.ratio)):
            found[row.bench].setdefault(key, number + 0.25)
    found["produce"] |= {"messages_per_second": 412_345, "typed_by_hand_ratio": 0.871}
    found["soak"] |= {"growth": 0.003, "messages": 4_000_000}
    return found


def test_each_cell_holds_one_figure_of_the_report() -> None:
    lines = table(report()).splitlines()
    assert len(lines) == len(ROWS) + 4
    cells = [cell.strip() for cell in lines[2].strip("|").split("|")]
    assert cells[2] == "412,345"
    assert cells[5] == "0.87"
    assert cells[6] == "`coinstream bench produce`"
    assert "over 4,000,000 messages" in lines[-3]
    assert "| 0.3 |" in lines[-3]
    assert "2026-01-05" in lines[-1]
    assert "load average was 0.4" in lines[-1]
    assert "`coinstream bench all`" in lines[-1]


def test_the_table_tells_of_a_quick_run() -> None:
    found = report()
    for bench in found.values():
        bench["quick"] = True
    assert "`coinstream bench all --quick`" in table(found)


def test_a_missing_figure_is_named() -> None:
    found = report()
    del found["land"]["ratio"]
    with pytest.raises(ValueError, match="land has no figure ratio"):
        table(found)


def test_the_table_is_replaced_between_its_markers() -> None:
    first = with_table("before\n<!-- sizing -->\n\nafter", "sizing", "| one |")
    assert first == "before\n<!-- sizing -->\n| one |\n<!-- /sizing -->\n\nafter"
    assert with_table(first, "sizing", "| two |") == first.replace("one", "two")
    with pytest.raises(ValueError, match="sizing"):
        with_table("no marker", "sizing", "| one |")


def test_costs_and_sizing_follow_from_the_scale_bench() -> None:
    made = {
        **{"cpu_us_per_message": 4.0, "messages_per_second": 250_000, "raw_cpu_us_per_message": 2.5},
        "typed_by_hand_cpu_us_per_message": 3.5,
    }
    found = report()
    found["feeds"]["cpu_us_per_message"] = 12.0
    found["scale"] |= {name: {"1": made} for name in ("partitions", "exchanges", "symbols", "members")}
    found["scale"] |= {"feed_shards": {"2": made}}
    found["scale"]["stored_bytes_per_message"] = 50.0
    assert "| 1 | 4.00 | 3.50 | 2.50 | 250,000 |" in costs(found)
    assert "| 2 | 4.00 | 250,000 |" in costs(found)
    lines = sizing(found).splitlines()
    assert lines[2] == "| processor cores of feeds | 0.6 | 12.0 | 120.0 |"
    assert lines[3] == "| feed processes, each 60 % of a core | 1 | 20 | 200 |"
    assert lines[6] == "| MB per second into the cluster | 2.5 | 50.0 | 500.0 |"


def test_the_pages_have_the_markers() -> None:
    for page, markers in (
        ("README.md", ("figures",)),
        ("docs/benchmarks.md", ("figures",)),
        ("docs/scaling.md", ("costs", "sizing")),
    ):
        text = (ROOT / page).read_text(encoding="utf-8")
        for marker in markers:
            assert text.count(f"<!-- {marker} -->") == 1
