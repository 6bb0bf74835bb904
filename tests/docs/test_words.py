"""Test that documentation and code use plain English, and that the generated reference is complete."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest
from typer.testing import CliRunner

from coinstream.cli import GROUPS
from coinstream.cli.feed import app as feed_app
from coinstream.feeds.exchanges import adapters
from scripts.reference import classes, commands_page, exchanges_page, settings_page
from tests.docs.pages import ROOT
from tests.docs.prose import Passage, markdown, modules, python, summaries

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
    "bury": r"bur(y|ies|ied|ying)",
    "judge": r"judg(e|es|ed|ing|ements?)",
    "verdict": r"verdicts?",
    "patience": r"(im)?patien(ce|t|tly)",
    "obituary": r"obituar(y|ies)",
    "insist": r"insist(s|ed|ing)?",
    "nudge": r"nudg(e|es|ed|ing)",
    "letterbox": r"letter[ -]?box(es)?",
    "house": r"houses?",
    "company": r"(keep|kept|keeps) company",
    "without a word": r"without a word|(its|their|his|own) word",
    "anew": r"anew",
    "beforehand": r"before-?hand",
    "somebody": r"somebody|someone",
    "nobody": r"nobody|no one",
    "whoever": r"who(so)?ever",
    "who asks": r"who (asks|asked|comes|came)",
    "so many": r"so many",
    "for ever": r"for ever",
    "as the machine is": r"as the machine is",
    "all the same": r"all the same",
    "says so": r"says? so|said so",
    "let go": r"lets? go|letting go",
    "tells": r"tells|told",
    "knows nothing": r"knows? nothing",
    "section of another document": r"(section|paragraph) \d+",
    "a second": (
        r"(messages|records|rows|offsets|bytes|frames|requests|quotes|entries|events|looks) an? "
        r"(second|minute|hour|day)"
    ),
    "one a partition": (
        r"one an? (second|minute|message|worker|partition|topic|batch|line|frame|type|table|asset|process"
        r"|core)"
    ),
}
"""Metaphors and unidiomatic forms; write the term of Kafka, Dagster, Iceberg or Prometheus."""
OPENINGS = re.compile(r"(What|How|Whether|Where|Who|Why|Which) ")
"""First words of a docstring that describe a question instead of an action or a thing."""


def offences(word: str, passages: Iterable[Passage]) -> list[Passage]:
    """Return the passages that contain a banned form."""
    pattern = re.compile(rf"\b({BANNED[word]})\b", re.IGNORECASE)
    return [passage for passage in passages if pattern.search(passage.text)]


@pytest.fixture(scope="module")
def manual() -> dict[Path, list[Passage]]:
    """Return the prose of each page."""
    return {path: markdown(path.read_text()) for path in PROSE}


@pytest.fixture(scope="module")
def code() -> dict[Path, list[Passage]]:
    """Return the prose of each module."""
    return {path: python(path.read_text()) for path in modules(ROOT)}


def places(word: str, texts: Mapping[Path, Iterable[Passage]]) -> list[str]:
    """Return the files and lines that contain a banned form."""
    return [
        f"{path.relative_to(ROOT)}:{each.line}"
        for path, passages in texts.items()
        for each in offences(word, passages)
    ]


@pytest.mark.parametrize("word", BANNED)
def test_no_page_uses(word: str, manual: dict[Path, list[Passage]]) -> None:
    assert not places(word, manual)


@pytest.mark.parametrize("word", BANNED)
def test_no_module_uses(word: str, code: dict[Path, list[Passage]]) -> None:
    assert not places(word, code)


def test_docstrings_begin_with_an_action_or_a_thing() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{each.line}: {each.text}"
        for path in modules(ROOT)
        for each in summaries(path.read_text())
        if OPENINGS.match(each.text)
    ]
    assert not found


def test_code_in_a_page_is_not_prose() -> None:
    assert markdown("a `b` c\n```\nmend\n```\nd") == [Passage(1, "a `…` c"), Passage(5, "d")]
    assert not offences("somebody", markdown("Call `somebody()`, see https://example.org/somebody."))


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("so many", "Stop after so\nmany seconds."),
        ("so many", "Stop after **so** _many_ seconds."),
        ("bury", "It BURIES them."),
        ("a second", "| rate | 5 messages a second |"),
        ("section of another document", "as in section 4"),
    ],
)
def test_a_banned_form_is_found_in_a_page(word: str, text: str) -> None:
    assert offences(word, markdown(text))


@pytest.mark.parametrize(
    "source",
    [
        '"""Wait for\nso many seconds."""',
        'class A:\n    x = 1\n    """Wait for so many seconds."""',
        "# wait for so\n# many seconds\n",
        "raise FooError('after ' + f'so many {n}')",
        "raise FooError('x' if y else 'so many')",
        "typer.Option(help='Stop after so many seconds.')",
        "log.warning('so many')",
    ],
)
def test_a_banned_form_is_found_in_code(source: str) -> None:
    assert offences("so many", python(source))


@pytest.mark.parametrize(
    "source", ["so_many = 1", "x = 'so many'", "# see `so many`", "raise FooError(f'{so_many}')"]
)
def test_names_and_data_are_not_prose(source: str) -> None:
    assert not offences("so many", python(source))


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


def test_the_table_of_channels_is_what_feed_exchanges_prints() -> None:
    done = CliRunner().invoke(feed_app, ["exchanges", "--json"])
    told = {
        (venue["exchange"], channel["name"], ", ".join(channel["types"]), channel["evidence"])
        for venue in json.loads(done.stdout)
        for channel in venue["channels"]
    }
    rows = [line.strip("| ").split(" | ") for line in exchanges_page().splitlines() if line.startswith("| `")]
    written = {(row[0].removesuffix(" (recordings only)").strip("`"), *row[1:]) for row in rows}
    assert written == told
    assert {row[3] for row in rows} == {"recording", "documentation"}


def test_every_command_is_in_the_reference() -> None:
    page = commands_page()
    assert all(f"## `coinstream {name}`" in page for name in GROUPS)
    assert "- `coinstream topics apply -e binance --json`" in page
