"""Make a release of this checkout: `python scripts/release.py VERSION`.

Set the version, give the unreleased changes a section of their own, build the wheel and the sdist, check both
with twine, commit and tag. Nothing is pushed or uploaded. If a step fails, the files are as they were.
"""

from __future__ import annotations

import re
import subprocess
import sys
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Final

VERSION_FILE: Final = Path("platform/coinstream/__init__.py")
CHANGELOG: Final = Path("CHANGELOG.md")
_VERSION: Final = re.compile(r"\d+\.\d+\.\d+((a|b|rc)\d+)?")
_ASSIGNMENT: Final = re.compile(r'^__version__ = "([^"]+)"$', re.MULTILINE)
_UNRELEASED: Final = re.compile(r"^## \[Unreleased\]\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)


class ReleaseError(Exception):
    """A release that cannot be made, with the reason."""


def with_version(code: str, version: str) -> str:
    """Return the module's code with another version.

    Raises:
        ReleaseError: the version is malformed or not newer, or the code has none.
    """
    if not _VERSION.fullmatch(version):
        raise ReleaseError(f"invalid version {version!r}; expected MAJOR.MINOR.PATCH, for example 1.4.0")
    found = _ASSIGNMENT.search(code)
    if found is None:
        raise ReleaseError(f"{VERSION_FILE} does not assign __version__")
    if not _order(version) > _order(found[1]):
        raise ReleaseError(f"version {version} is not newer than {found[1]}")
    return _ASSIGNMENT.sub(f'__version__ = "{version}"', code)


def with_section(changelog: str, version: str, day: date) -> str:
    """Return the changelog with the unreleased changes under the version.

    Raises:
        ReleaseError: there are no unreleased changes, or the version has a section already.
    """
    found = _UNRELEASED.search(changelog)
    if found is None or "\n- " not in f"\n{found[1]}":
        raise ReleaseError(f"{CHANGELOG} has no changes under [Unreleased]")
    if f"## [{version}]" in changelog:
        raise ReleaseError(f"{CHANGELOG} has a section {version} already")
    section = f"## [Unreleased]\n\n## [{version}] - {day.isoformat()}\n{found[1]}"
    return changelog[: found.start()] + section + changelog[found.end() :]


def release(root: Path, version: str, day: date) -> list[Path]:
    """Make the release and return the built files.

    Raises:
        ReleaseError: the tree has changes, the tag exists, or the version or the changelog is not ready.
        subprocess.CalledProcessError: the build, the check or git failed.
    """
    if _git(root, "status", "--porcelain", "--untracked-files=no"):
        raise ReleaseError("the working tree has changes; commit or stash them first")
    if _git(root, "tag", "--list", f"v{version}"):
        raise ReleaseError(f"the tag v{version} exists already")
    before = {name: (root / name).read_text(encoding="utf-8") for name in (VERSION_FILE, CHANGELOG)}
    after = {
        VERSION_FILE: with_version(before[VERSION_FILE], version),
        CHANGELOG: with_section(before[CHANGELOG], version, day),
    }
    try:
        for name, text in after.items():
            (root / name).write_text(text, encoding="utf-8")
        built = _build(root, version)
        _git(root, "commit", "--quiet", "-m", f"release: publish {version}", "--", *map(str, after))
        _git(root, "tag", "--annotate", f"v{version}", "-m", f"coinstream {version}")
    except BaseException:
        for name, text in before.items():
            (root / name).write_text(text, encoding="utf-8")
        raise
    return built


def _build(root: Path, version: str) -> list[Path]:
    dist = root / "dist" / version
    # The build uses the locked setuptools of this environment.
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(dist), str(root)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    built = sorted(dist.glob(f"coinstream-{version}*"))
    if {path.suffix for path in built} != {".whl", ".gz"}:
        raise ReleaseError(f"the build left {[path.name for path in built]} instead of a wheel and an sdist")
    subprocess.run([sys.executable, "-m", "twine", "check", "--strict", *map(str, built)], check=True)
    return built


def _order(version: str) -> tuple[list[int], bool, str, int]:
    numbers, kind, count = re.fullmatch(r"([\d.]+?)(?:(a|b|rc)(\d+))?", version).groups()  # type: ignore[union-attr]
    return [int(part) for part in numbers.split(".")], kind is None, kind or "", int(count or 0)


def _git(root: Path, *words: str) -> str:
    done = subprocess.run(["git", *words], cwd=root, check=True, capture_output=True, text=True)  # noqa: S607
    return done.stdout.strip()


def main(arguments: list[str]) -> int:
    """Make the release and return the exit code: 0 success, 1 not possible, 2 invalid usage."""
    if len(arguments) != 1:
        print("usage: make release VERSION=1.4.0", file=sys.stderr)
        return 2
    try:
        built = release(Path.cwd(), arguments[0], datetime.now(UTC).date())
    except ReleaseError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        print(f"error: {' '.join(map(str, error.cmd))} failed\n{error.stderr or ''}", file=sys.stderr)
        return 1
    for path in built:
        print(path)
    print(f"Review the commit and the tag, then: git push origin HEAD v{arguments[0]}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
