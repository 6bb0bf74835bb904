"""A release: one source of the version, a section of the changelog, checked files and a tag."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from datetime import date
from pathlib import Path

import pytest

import coinstream
from scripts.release import CHANGELOG, VERSION_FILE, ReleaseError, main, release, with_section, with_version

ROOT = Path(__file__).parents[2]
DAY = date(2026, 12, 1)
CODE = '"""A package."""\n\n__version__ = "1.2.3"\n'
CHANGES = """# Changelog

## [Unreleased]

### Added
- A thing.

## [1.2.3] - 2026-01-01

### Fixed
- Old.
"""


@pytest.mark.parametrize("version", ["1.2.4", "1.3.0", "2.0.0", "1.2.10", "1.3.0rc1"])
def test_a_newer_version_is_set(version: str) -> None:
    assert with_version(CODE, version) == CODE.replace("1.2.3", version)


@pytest.mark.parametrize(
    ("version", "said"),
    [
        ("1.2.3", "not newer"),
        ("1.2.2", "not newer"),
        ("0.9.9", "not newer"),
        ("1.2.3rc1", "not newer"),
        ("v2.0.0", "invalid"),
        ("2.0", "invalid"),
        ("2.0.0; rm", "invalid"),
    ],
)
def test_other_versions_are_refused(version: str, said: str) -> None:
    with pytest.raises(ReleaseError, match=said):
        with_version(CODE, version)


def test_unreleased_changes_get_a_section() -> None:
    text = with_section(CHANGES, "1.3.0", DAY)
    assert "## [Unreleased]\n\n## [1.3.0] - 2026-12-01\n\n### Added\n- A thing.\n\n## [1.2.3]" in text
    with pytest.raises(ReleaseError, match="no changes"):
        with_section(text, "1.4.0", DAY)
    with pytest.raises(ReleaseError, match="already"):
        with_section(CHANGES, "1.2.3", DAY)


def test_this_checkout_has_one_version_and_a_changelog_to_release() -> None:
    assert 'dynamic = ["version"]' in (ROOT / "pyproject.toml").read_text()
    assert with_version((ROOT / VERSION_FILE).read_text(), "99.0.0")
    assert with_section((ROOT / CHANGELOG).read_text(), "99.0.0", DAY)


def test_the_changelog_keeps_its_form() -> None:
    text = (ROOT / CHANGELOG).read_text()
    entries = [line for line in text.splitlines() if line.startswith("- ")]
    assert len(entries) == len(set(entries)), "an entry stands twice"
    headings = [line for line in text.splitlines() if line.startswith("#")]
    assert headings[:2] == ["# Changelog", "## [Unreleased]"]
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert {line.removeprefix("### ") for line in headings if line.startswith("### ")} <= kinds


def test_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "usage: make release VERSION=" in capsys.readouterr().err


def git(folder: Path, *words: str) -> str:
    done = subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return a repository with the files of this one."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    packed = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, check=True, capture_output=True).stdout
    subprocess.run(["tar", "-x"], cwd=folder, input=packed, check=True)
    git(folder, "init", "--quiet")
    git(folder, "config", "user.name", "Releaser")
    git(folder, "config", "user.email", "releaser@example.org")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "-m", "tests: import everything")
    return folder


@pytest.mark.system
def test_a_release_is_built_checked_committed_and_tagged(checkout: Path) -> None:
    version = "99.1.0"
    built = release(checkout, version, DAY)
    wheel, sdist = sorted(built, key=lambda path: path.suffix, reverse=True)
    with zipfile.ZipFile(wheel) as packed:
        (name,) = [name for name in packed.namelist() if name.endswith("dist-info/METADATA")]
        assert f"\nVersion: {version}\n" in packed.read(name).decode()
        assert f'__version__ = "{version}"' in packed.read("coinstream/__init__.py").decode()
    with tarfile.open(sdist) as archive:
        assert f"coinstream-{version}/pyproject.toml" in archive.getnames()
    assert git(checkout, "log", "-1", "--format=%s") == f"release: publish {version}"
    assert git(checkout, "describe", "--exact-match") == f"v{version}"
    assert not git(checkout, "status", "--porcelain", "--untracked-files=no")
    with pytest.raises(ReleaseError, match="exists already"):
        release(checkout, version, DAY)


@pytest.mark.system
def test_a_release_that_fails_leaves_the_files_as_they_were(checkout: Path) -> None:
    readme = checkout / "README.md"
    readme.unlink()
    with pytest.raises(ReleaseError, match="has changes"):
        release(checkout, "99.1.0", DAY)
    git(checkout, "commit", "--quiet", "--all", "-m", "tests: break the build")
    with pytest.raises(subprocess.CalledProcessError):
        release(checkout, "99.1.0", DAY)
    assert not git(checkout, "status", "--porcelain", "--untracked-files=no")
    assert not git(checkout, "tag", "--list")


def test_the_command_prints_the_version_of_the_module() -> None:
    code = "from coinstream.cli import main; main(['--version'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"coinstream {coinstream.__version__}"
