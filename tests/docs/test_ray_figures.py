"""Test that the tables about Ray in docs/scaling.md follow from one report of its benchmark."""

from __future__ import annotations

from typing import Any

from scripts.figures import ROOT
from scripts.ray_figures import cores, costs, rates

REPORT: dict[str, Any] = {
    "messages": 1_000_000,
    "workers": 2,
    "slices": 2,
    "many_slices": 144,
    "messages_per_second": 210_000,
    "embedded_cpu_us_per_row": 4.0,
    "cpu_us_per_row": 4.25,
    "many_slices_cpu_us_per_row": 6.0,
    "many_slices_cpu_ratio": 1.41,
    "slice_cpu_ms": 12.3,
    "commit_ms": {"100": 20.0, "1000": 110.0},
    "startup_s": 5.5,
    "machine": {"at": "2026-01-05T10:00:00+00:00", "cores": 2, "load_1m": 0.3},
}


def test_each_cost_is_a_line() -> None:
    lines = costs(REPORT).splitlines()
    assert "| a row, 144 slices on Ray | µs of processor time | 6.00 |" in lines
    assert "| a commit of 1,000 files | ms on the clock | 110.00 |" in lines
    assert lines[-1].startswith("1,000,000 rows in 48 partitions on 2026-01-05: 2 cores")


def test_cores_and_rates_are_computed_from_the_cost_of_a_row() -> None:
    assert cores(REPORT).splitlines()[2] == "| 16 | 2,666,667 | 32 | 1.6% | 133 |"
    assert rates(REPORT).splitlines()[3] == "| 10,000,000 | 40.0 | 60.0 | 120 | 500 | 3,000,000,000 |"


def test_the_page_has_the_markers() -> None:
    text = (ROOT / "docs" / "scaling.md").read_text()
    assert all(f"<!-- {marker} -->" in text for marker in ("ray", "ray-cores", "ray-rates"))
