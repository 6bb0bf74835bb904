from __future__ import annotations

import os
import sys
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
    import ray
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        # Nodes start slowly on a machine that runs other tests.
        patch.setenv("RAY_raylet_start_wait_time_s", "180")
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        # Another test of this process may have connected it to a cluster of its own.
        ray.shutdown()
        nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        try:
            nodes.add_node(num_cpus=1)
            ray.init(address=nodes.address, log_to_driver=False)
            yield nodes
        finally:
            ray.shutdown()
            nodes.shutdown()
