"""Test the folders of a platform and their locks."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from coinstream.errors import PlatformError
from coinstream.stack.paths import HOST, InstancePaths, code_root, reserve_port


def test_a_taken_port_gives_way_to_the_next_free_one() -> None:
    with socket.socket() as holder:
        holder.bind((HOST, 0))
        holder.listen()
        taken = holder.getsockname()[1]
        assert taken < reserve_port(taken) < taken + 200


def test_a_reserved_port_is_given_to_nobody_else_before_it_is_used() -> None:
    first = reserve_port(0)
    command = [
        sys.executable,
        "-c",
        f"from coinstream.stack.paths import reserve_port; print(reserve_port({first}))",
    ]
    other = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert first < other < first + 200
    assert first < reserve_port(first) < first + 200


def test_a_home_is_claimed_once(tmp_path: Path) -> None:
    first, second = (
        InstancePaths(code_root(), tmp_path / "home"),
        InstancePaths(code_root(), tmp_path / "home"),
    )
    with first.claimed() as claim:
        claim.write_text("http://127.0.0.1:3000")
        with pytest.raises(PlatformError, match=r"runs already .*http://127\.0\.0\.1:3000"), second.claimed():
            pass
    with second.claimed():
        pass


def test_the_home_tells_dagster_where_its_code_is(tmp_path: Path) -> None:
    paths = InstancePaths(code_root(), tmp_path / "home")
    paths.prepare(4321)
    (entry,) = yaml.safe_load(paths.workspace.read_text())["load_from"]
    assert entry["grpc_server"]["port"] == 4321
    settings = yaml.safe_load((paths.dagster_home / "dagster.yaml").read_text())
    assert settings["telemetry"] == {"enabled": False}
    assert paths.environment()["DAGSTER_HOME"] == str(paths.dagster_home)


def test_a_home_that_cannot_be_written_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PlatformError, match="file/home"):
        InstancePaths(code_root(), tmp_path / "file" / "home").prepare(1)
    with (
        pytest.raises(PlatformError, match="file/home"),
        InstancePaths(code_root(), tmp_path / "file" / "home").claimed(),
    ):
        pass
