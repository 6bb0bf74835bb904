"""Loading the code location is fast, because every run and the code server do it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent.parent
LATE: Final = ("altair", "ccxt", "duckdb", "great_expectations", "pandas", "polars", "pyiceberg", "ray")
"""Packages that take long to import and that few runs use."""


def test_the_code_location_imports_no_package_that_only_some_runs_use() -> None:
    code = f"import sys, definitions; print(*(name for name in {LATE!r} if name in sys.modules))"
    command = [sys.executable, "-W", "ignore", "-c", code]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "platform")}
    loaded = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert loaded.stdout.split() == []
