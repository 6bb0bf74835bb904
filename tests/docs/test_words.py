"""What the documentation must not say, and what the reference made from code must."""

from __future__ import annotations

import re

import pytest

from coinstream.cli import GROUPS
from scripts.reference import classes, commands_page, settings_page
from tests.docs.pages import ROOT

PROSE = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md"), ROOT / "mkdocs.yml"]
FORBIDDEN = {
    "a path of somebody's machine": r"(?<![\w.}])/(work|root|home|Users)/",
    "the host of a package registry": (
        r"pypi\.org|pythonhosted|registry\.npmjs|maven\.org|crates\.io|proxy\.golang"
    ),
    "a word that is not finished": r"\b(TODO|FIXME|GROWTH|XXX|TBD)\b",
}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_page_names(what: str) -> None:
    found = [str(path.relative_to(ROOT)) for path in PROSE if re.search(FORBIDDEN[what], path.read_text())]
    assert not found


def test_every_setting_is_explained() -> None:
    silent = [
        f"{cls.__name__}.{name}"
        for cls in classes()
        for name, field in cls.model_fields.items()
        if not field.description
    ]
    assert not silent
    page = settings_page()
    assert "| `REDPANDA_PRODUCER_LINGER_MS` | `5.0` |" in page
    assert "| `COINSTREAM_LAG_BATCH_GROUPS` | `coinstream-landing` |" in page
    assert "| `COINSTREAM_HOME` | `~/.coinstream` |" in page


def test_every_command_is_in_the_reference() -> None:
    page = commands_page()
    assert all(f"## `coinstream {name}`" in page for name in GROUPS)
    assert "- `coinstream topics apply -e binance --json`" in page
