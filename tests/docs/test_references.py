"""Test that files and folders that the pages name exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.pages import ROOT

PAGES = [ROOT / "CONTRIBUTING.md", ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PACKAGE = ROOT / "platform" / "coinstream"
OF_THE_READER = {"acme.py"}
"""Files that readers write."""


def named(text: str, ends: str = r"\.py") -> set[str]:
    """Return the files in the inline code of a page whose names end so."""
    code = re.findall(r"`([^`\s]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    return {name for name in code if re.fullmatch(rf"[\w/.-]+({ends})", name)}


def is_there(name: str) -> bool:
    """Return whether a path exists, or a module with that name anywhere in the package."""
    if "/" not in name:
        return any(PACKAGE.rglob(name)) or (ROOT / name).exists()
    return any((folder / name).exists() for folder in (ROOT, PACKAGE, PACKAGE / "feeds"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_named_files_exist(page: Path) -> None:
    assert not sorted(name for name in named(page.read_text()) - OF_THE_READER if not is_there(name))


def test_the_architecture_has_every_package_and_no_other() -> None:
    packages = {f"{path.parent.name}/" for path in PACKAGE.glob("*/__init__.py")}
    folders = named((ROOT / "docs" / "architecture.md").read_text(), "/")
    assert packages <= folders
    assert not sorted(name for name in folders if not is_there(name))


def test_a_missing_file_is_found() -> None:
    assert named("`lake/nothing.py` and `x.y()` and\n```\n`code.py`\n```") == {"lake/nothing.py"}
    assert not is_there("lake/nothing.py")
    assert is_there("lake/")
