"""deploy/ as far as it can be checked without an engine: compose as Docker's own library reads it, YAML."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
LOADER = Path(__file__).with_name("compose")
SECRETS = {
    "REDPANDA_ADMIN_PASSWORD": "admin-Secret-1",
    "REDPANDA_PASSWORD": "user-Secret-2",
    "POSTGRES_PASSWORD": "database-Secret-3",
    "GRAFANA_PASSWORD": "grafana-Secret-4",
}
BROKERS = ("redpanda-0", "redpanda-1", "redpanda-2")


@pytest.fixture(scope="module")
def compose_loader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a program that loads a compose file with the library behind `docker compose config`."""
    go = shutil.which("go")
    if go is None:
        pytest.skip("no Go here: the loader of compose files is not built")
    program = tmp_path_factory.mktemp("loader") / "compose"
    built = subprocess.run(
        [go, "build", "-o", program, "."],
        cwd=LOADER,
        capture_output=True,
        text=True,
        # A build without a cache compiles the standard library, too.
        timeout=900,
        check=False,
    )
    if built.returncode != 0:
        pytest.skip(f"the loader of compose files cannot be built here: {built.stderr.strip()[-200:]}")
    return program


def load(compose_loader: Path, folder: Path, secrets: dict[str, str]) -> subprocess.CompletedProcess[str]:
    env_file = folder / "env"
    env_file.write_text("".join(f"{name}={value}\n" for name, value in secrets.items()))
    return subprocess.run(
        [compose_loader, DEPLOY / "compose.yaml", env_file],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"PATH": os.environ["PATH"]},
    )


@pytest.fixture
def compose(compose_loader: Path, tmp_path: Path) -> dict[str, Any]:
    done = load(compose_loader, tmp_path, SECRETS)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_whole_platform_is_there(compose: dict[str, Any]) -> None:
    assert compose["services"].keys() >= {
        *BROKERS, "users", "topics", "postgres", "code", "webserver", "daemon", "metrics",
        "console", "prometheus", "grafana",
    }  # fmt: skip


def test_nothing_listens_beyond_this_machine(compose: dict[str, Any]) -> None:
    ports = [port for service in compose["services"].values() for port in service.get("ports", [])]
    assert ports
    assert {port["host_ip"] for port in ports} == {"127.0.0.1"}
    published = [port["published"] for port in ports]
    assert len(published) == len(set(published))


def test_images_are_pinned(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        assert re.search(r":v?\d+\.\d+(\.\d+)?", service["image"]), f"{name}: {service['image']}"


def test_brokers_are_three_and_durable(compose: dict[str, Any]) -> None:
    settings = yaml.safe_load((DEPLOY / "redpanda" / "bootstrap.yaml").read_text())
    assert settings["auto_create_topics_enabled"] is False
    assert settings["write_caching_default"] == "false"
    assert settings["default_topic_replications"] == 3
    assert settings["enable_sasl"] is True
    for name in BROKERS:
        service = compose["services"][name]
        assert "dev-container" not in " ".join(service["command"])
        targets = {volume["target"]: volume for volume in service["volumes"]}
        assert targets["/var/lib/redpanda/data"]["source"] == name
        assert Path(targets["/etc/redpanda/.bootstrap.yaml"]["source"]).is_file()


def test_ours_run_without_rights(compose: dict[str, Any]) -> None:
    ours = [service for service in compose["services"].values() if service["image"].startswith("coinstream:")]
    assert len(ours) >= 5
    for service in ours:
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]


def test_no_service_takes_the_whole_machine() -> None:
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    for name, service in services.items():
        for limit in ("mem_limit", "cpus", "pids_limit"):
            assert service.get(limit), f"{name} has no {limit}"


def test_the_admin_api_asks_for_the_administrator() -> None:
    assert (
        yaml.safe_load((DEPLOY / "redpanda" / "bootstrap.yaml").read_text())["admin_api_require_auth"] is True
    )
    values = yaml.safe_load((DEPLOY / "helm" / "redpanda-values.yaml").read_text())
    assert values["config"]["cluster"]["admin_api_require_auth"] is True


@pytest.mark.parametrize("exists", [False, True])
def test_passwords_are_on_no_command_line(tmp_path: Path, exists: bool) -> None:
    """Run the script with programs that write down their arguments and their standard input."""
    users = "coinstream" if exists else "another-user"
    for name, body in {
        "curl": 'echo "curl $*" >>"$OUT/arguments"; cat >"$OUT/curl.conf"',
        "rpk": f'echo "rpk $*" >>"$OUT/arguments"; case "$*" in *"user list"*) echo {users};; esac',
    }.items():
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\n{body}\n")
        program.chmod(0o755)
    password = 'pa"ss\\wo$rd `x` 1'
    done = subprocess.run(
        ["sh", DEPLOY / "redpanda" / "provision.sh"],
        env={
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "OUT": str(tmp_path),
            "ADMIN_PASSWORD": "admin-Secret-1",
            "COINSTREAM_PASSWORD": password,
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    arguments = (tmp_path / "arguments").read_text()
    assert "admin-Secret-1" not in arguments
    assert password not in arguments
    assert "acl create" in arguments
    settings = dict(re.findall(r'^(\w+) = "(.*)"$', (tmp_path / "curl.conf").read_text(), re.MULTILINE))
    assert settings["request"] == ("PUT" if exists else "POST")
    body = json.loads(re.sub(r"\\(.)", r"\1", settings["data"]))
    assert body == {"username": "coinstream", "password": password, "algorithm": "SCRAM-SHA-256"}


@pytest.mark.parametrize("missing", SECRETS)
def test_every_secret_must_be_given(missing: str, compose_loader: Path, tmp_path: Path) -> None:
    done = load(compose_loader, tmp_path, {name: value for name, value in SECRETS.items() if name != missing})
    assert done.returncode != 0
    assert missing in done.stderr
    example = (DEPLOY / "env.example").read_text()
    assert f"{missing}=\n" in example, "the example names it, without a value"


def test_mounted_files_are_there(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        for volume in service.get("volumes", []):
            # deploy/prometheus and deploy/grafana: tests/monitoring look into them.
            if volume["type"] == "bind" and name not in {"prometheus", "grafana"}:
                assert Path(volume["source"]).exists(), f"{name} mounts {volume['source']}"


YAML_FILES = sorted(path for pattern in ("*.yaml", "*.yml") for path in DEPLOY.rglob(pattern))


@pytest.mark.parametrize("path", YAML_FILES, ids=lambda path: str(path.relative_to(DEPLOY)))
def test_yaml_is_sound(path: Path) -> None:
    assert [document for document in yaml.safe_load_all(path.read_text()) if document]


def test_instance_settings_differ_in_storage_only() -> None:
    local = yaml.safe_load((ROOT / "dagster.yaml").read_text())
    deployed = yaml.safe_load((DEPLOY / "dagster.yaml").read_text())
    own = {"storage", "compute_logs", "local_artifact_storage"}
    assert {name: value for name, value in deployed.items() if name not in own} == local


def test_image_holds_what_it_runs() -> None:
    lines = (DEPLOY / "Dockerfile").read_text().splitlines()
    copied = [
        word
        for line in lines
        if line.startswith("COPY") and "--from" not in line
        for word in line.split()[1:-1]
    ]
    for name in copied:
        assert (ROOT / name).exists(), f"COPY {name}"
    admitted = [
        line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")
    ]
    assert set(copied) <= set(admitted)
    last = [line for line in lines if line.startswith("USER")][-1]
    assert last == "USER 10001:10001"


def test_example_holds_no_secret() -> None:
    for document in yaml.safe_load_all((DEPLOY / "helm" / "secrets.example.yaml").read_text()):
        secrets = {
            name: value
            for name, value in document["stringData"].items()
            if "password" in name.lower() or "token" in name or name.endswith("_URI")
        }
        assert secrets
        assert set(secrets.values()) == {""}


def test_every_run_is_a_job_of_its_own() -> None:
    values = yaml.safe_load((DEPLOY / "helm" / "dagster-values.yaml").read_text())
    assert values["runLauncher"]["type"] == "K8sRunLauncher"
