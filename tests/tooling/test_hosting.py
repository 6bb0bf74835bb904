"""Files for the host of the repository and for contributors' tools."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
GITHUB = ROOT / ".github"
ACTIONLINT = Path(__file__).with_name("actionlint")
"""A Go module that pins actionlint."""
SCHEMAS = {
    ".github/workflows/ci.yml": ["vendor.github-workflows", "custom.github-workflows-require-timeout"],
    ".github/dependabot.yml": ["vendor.dependabot"],
    ".github/ISSUE_TEMPLATE/bug.yml": ["vendor.github-issue-forms"],
    ".github/ISSUE_TEMPLATE/feature.yml": ["vendor.github-issue-forms"],
    ".github/ISSUE_TEMPLATE/config.yml": ["vendor.github-issue-config"],
}


def check(schema: str, file: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, str(file)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def workflow() -> dict[str, Any]:
    return dict(yaml.safe_load((GITHUB / "workflows/ci.yml").read_text()))


def test_every_file_has_a_schema() -> None:
    files = {path.relative_to(ROOT).as_posix() for path in GITHUB.rglob("*.yml")}
    assert files == SCHEMAS.keys()


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_file_fits_its_schema(name: str) -> None:
    for schema in SCHEMAS[name]:
        done = check(schema, ROOT / name)
        assert done.returncode == 0, done.stdout


def test_the_schema_finds_faults(tmp_path: Path) -> None:
    broken = tmp_path / "ci.yml"
    broken.write_text((GITHUB / "workflows/ci.yml").read_text().replace("runs-on", "runs-in"))
    assert check("vendor.github-workflows", broken).returncode != 0


@pytest.mark.system
def test_actionlint_accepts_the_workflows() -> None:
    go = shutil.which("go")
    if go is None:
        pytest.skip("no Go on this machine: actionlint is not built")
    done = subprocess.run(
        [go, "tool", "actionlint", "-no-color", *map(str, (GITHUB / "workflows").glob("*.yml"))],
        cwd=ACTIONLINT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    if "dial tcp" in done.stderr or "no such host" in done.stderr:
        pytest.skip(f"actionlint cannot be fetched: {done.stderr[-300:]}")
    assert done.returncode == 0, done.stdout + done.stderr


def test_hosted_ci_runs_everything_on_every_supported_python() -> None:
    (job,) = workflow()["jobs"].values()
    assert ".ci/run" in [step.get("run") for step in job["steps"]]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    supported = re.findall(r"Python :: (\d\.\d+)", "\n".join(project["classifiers"]))
    assert job["strategy"]["matrix"]["python"] == supported
    assert project["requires-python"] == f">={supported[0]}"


def test_ci_runs_both_targets() -> None:
    lines = (ROOT / ".ci/run").read_text().splitlines()
    assert [line for line in lines if line.startswith("make ")] == ["make test", "make test-all"]


def test_code_owners_are_left_to_the_host() -> None:
    lines = (GITHUB / "CODEOWNERS").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert not rules, "name owners only where they exist: GitHub ignores a rule with an unknown owner"
    suggested = [line.split()[1] for line in lines if line.endswith("@OWNER")]
    assert suggested
    assert not [path for path in suggested if path != "*" and not (ROOT / path.strip("/")).is_dir()]


def test_updates_are_asked_for_where_dependencies_are() -> None:
    updates = yaml.safe_load((GITHUB / "dependabot.yml").read_text())["updates"]
    folders = [folder for one in updates for folder in one.get("directories", [one.get("directory")])]
    assert not [folder for folder in folders if not (ROOT / folder.strip("/")).is_dir()]
    modules = {f"/{path.parent.relative_to(ROOT)}" for path in ROOT.glob("tests/**/go.mod")}
    assert modules <= set(folders)


def test_hooks_run_what_the_makefile_runs() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pre_commit", "validate-config", str(ROOT / ".pre-commit-config.yaml")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (repo,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    entries = " ".join(hook["entry"] for hook in repo["hooks"])
    assert "ruff check" in entries
    assert "ruff format --check" in entries
    script = next(word for word in entries.split() if word.startswith("scripts/"))
    assert (ROOT / script).is_file()
