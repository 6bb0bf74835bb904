"""What the documentation must not say, and what the reference made from code must."""

from __future__ import annotations

import re

import pytest

from coinstream.cli import GROUPS
from coinstream.feeds.exchanges.discovery import adapters
from scripts.reference import classes, commands_page, exchanges_page, settings_page
from tests.docs.pages import ROOT

PROSE = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md"), ROOT / "mkdocs.yml"]
FORBIDDEN = {
    "a path of somebody's machine": r"(?<![\w.}])/(work|root|home|Users)/",
    "the host of a package registry": (
        r"pypi\.org|pythonhosted|registry\.npmjs|maven\.org|crates\.io|proxy\.golang"
    ),
    "a word that is not finished": r"\b(TODO|FIXME|GROWTH|XXX|TBD)\b",
}

BANNED = {
    "mend": r"mend(s|ed|able|ing)?",
    "bury": r"bur(y|ies|ied)",
    "judge": r"judg(e|es|ed|ing|ements?)",
    "verdict": r"verdicts?",
    "patience": r"patience",
    "obituary": r"obituar(y|ies)",
    "insist": r"insist(s|ed)?",
    "nudge": r"nudge[sd]?",
    "letterbox": r"letter ?box(es)?",
    "anew": r"anew",
    "beforehand": r"beforehand",
    "somebody": r"somebody",
    "nobody": r"nobody",
    "whoever": r"whoever",
    "who asks": r"who asks",
    "so many": r"so many",
    "as the machine is": r"as the machine is",
    "all the same": r"all the same",
}
"""Metaphors and unidiomatic forms; write the term of Kafka, Dagster, Iceberg or Prometheus."""


def prose(text: str) -> list[tuple[int, str]]:
    """Return the lines with their numbers, without code."""
    lines, is_code = [], False
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("```"):
            is_code = not is_code
        elif not is_code:
            lines.append((number, re.sub(r"`[^`]*`", "", line)))
    return lines


@pytest.mark.parametrize("word", BANNED)
def test_no_page_uses(word: str) -> None:
    pattern = re.compile(rf"\b({BANNED[word]})\b", re.IGNORECASE)
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in PROSE
        for number, line in prose(path.read_text())
        if pattern.search(line)
    ]
    assert not found


def test_code_is_no_prose() -> None:
    assert prose("a `b` c\n```\nmend\n```\nd") == [(1, "a  c"), (5, "d")]


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


def test_every_exchange_is_in_the_reference() -> None:
    page = exchanges_page()
    assert all(f"| `{exchange}`" in page for exchange, adapter in adapters().items() if adapter.channels)
    assert "| `bitfinex` | candles | ohlcv | documentation |" in page


def test_every_command_is_in_the_reference() -> None:
    page = commands_page()
    assert all(f"## `coinstream {name}`" in page for name in GROUPS)
    assert "- `coinstream topics apply -e binance --json`" in page
