"""coinstream is a code location beside a project that has packages of the same names."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT

OWN_ASSETS = '''
import dagster as dg


@dg.asset(deps=[dg.AssetKey(["tables", "level1"])])
def daily_spreads() -> None:
    """Compute the spreads of the day from the quotes table."""
'''
OWN_DEFINITIONS = """
import dagster as dg

import assets.spreads

defs = dg.Definitions(assets=dg.load_assets_from_modules([assets.spreads]))
(key,) = defs.resolve_asset_graph().materializable_asset_keys
assert key.to_user_string() == "daily_spreads"
"""


@pytest.mark.system
def test_a_project_with_its_own_assets_package_loads_beside_coinstream(tmp_path: Path) -> None:
    project = tmp_path / "project"
    (project / "assets").mkdir(parents=True)
    (project / "assets" / "__init__.py").touch()
    (project / "assets" / "spreads.py").write_text(OWN_ASSETS)
    (project / "project_definitions.py").write_text(OWN_DEFINITIONS)
    locations = [
        _location("project", "project_definitions", project),
        _location("coinstream", "definitions", ROOT),
    ]
    (project / "workspace.yaml").write_text(yaml.safe_dump({"load_from": locations}))
    home = tmp_path / "home"
    home.mkdir()
    done = subprocess.run(
        [
            *(sys.executable, "-m", "dagster", "definitions", "validate", "--load-with-grpc"),
            *("--workspace", str(project / "workspace.yaml")),
        ],
        cwd=project,
        env={
            **{name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
            "DAGSTER_HOME": str(home),
            "COINSTREAM_HOME": str(tmp_path / "coinstream"),
            "PYTHONPATH": str(ROOT / "platform"),
        },
        capture_output=True,
        text=True,
        timeout=170,
    )
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    for name in ("project", "coinstream"):
        assert f"Validation successful for code location {name}" in output


def _location(name: str, module: str, folder: Path) -> dict[str, dict[str, str]]:
    return {
        "python_module": {
            "module_name": module,
            "location_name": name,
            "working_directory": str(folder),
            "executable_path": sys.executable,
        }
    }
