"""Test the tables and the catalog of the lake."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from coinstream.lake.schemas import spec_named
from tests.lake.conftest import lake_at

ROUNDS, OPENERS = 8, 6


def test_a_new_catalog_is_opened_by_several_at_once(tmp_path: Path) -> None:
    def create(home: Path, together: threading.Barrier) -> str:
        lake = lake_at(home)
        together.wait()
        return lake.table(spec_named("level1")).location()

    with ThreadPoolExecutor(OPENERS) as threads:
        for number in range(ROUNDS):
            together = threading.Barrier(OPENERS)
            homes = [tmp_path / str(number)] * OPENERS
            assert len(set(threads.map(create, homes, [together] * OPENERS))) == 1
