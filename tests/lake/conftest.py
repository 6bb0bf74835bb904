from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from coinstream.lake.store import Lake
from coinstream.settings import HomeSettings, LakeSettings


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """Return an empty lake with small batches, so that a few thousand messages make several commits."""
    return lake_at(tmp_path / "home")


def lake_at(home: Path, **settings: Any) -> Lake:
    """Return the lake of a home."""
    chosen: dict[str, Any] = {"batch_rows": 2_000, **settings}
    return Lake(LakeSettings(**chosen), HomeSettings(home=home))


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[Any]:
    """Two nodes with a worker each; this process is connected to them.

    Tests that use it are in the xdist group `ray`, so that one process starts it once.
    """
    from tests.lake.ray_trials import two_nodes

    with two_nodes() as nodes:
        yield nodes
