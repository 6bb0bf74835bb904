"""Test help texts and suggestions for mistyped names."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from coinstream import __version__
from coinstream.cli import GROUPS, main, root_app


def run(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    with pytest.raises(SystemExit) as done:
        main(list(words))
    out, err = capsys.readouterr()
    assert (done.value.code or 0) == code, err
    # Boxes and line breaks of a narrow terminal say nothing.
    return " ".join((out + err).replace("│", " ").split())


def test_help_lists_every_command_with_examples(capsys: pytest.CaptureFixture[str]) -> None:
    text = run(capsys, "--help")
    assert all(name in text for name in GROUPS)
    assert "Examples:" in text
    assert "coinstream tail crypto-level1" in text


def leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    children = getattr(command, "commands", None)
    if children is None:
        yield path
        return
    for name, child in children.items():
        yield from leaves(child, (*path, name))


@pytest.mark.parametrize("path", [*leaves(typer.main.get_command(root_app("*")))], ids=" ".join)
def test_every_command_shows_examples_of_itself(
    path: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    examples = run(capsys, *path, "--help").partition("Examples:")[2]
    assert f"coinstream {' '.join(path)}" in examples


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("coinstream fe", {"feed"}),
        ("coinstream feed r", {"run"}),
        ("coinstream feed run binance-", {"binance-candles", "binance-live"}),
        ("coinstream tail crypto-level", {"crypto-level1", "crypto-level1.dlq"}),
        ("coinstream sink run j", {"jsonl"}),
    ],
)
def test_the_shell_completes_commands_and_names(
    typed: str, offered: set[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("_COINSTREAM_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", typed)
    monkeypatch.setenv("COMP_CWORD", str(len(typed.split()) - 1))
    monkeypatch.setattr(sys, "argv", ["coinstream"])
    assert set(run(capsys).split()) == offered


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (("feed", "run", "binanc"), "did you mean binance"),
        (("sink", "run", "jsnl", "x", "--topic", "t"), "jsonl"),
        (("lake", "land", "levle1"), "did you mean level1"),
        (("simulate", "-f", "gapp=1"), "did you mean gap"),
    ],
)
def test_a_mistyped_name_is_answered_too(
    words: tuple[str, ...], meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert meant in run(capsys, *words, code=1)


def test_a_mistyped_bench_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert "did you mean produce" in run(capsys, "bench", "prduce", code=2)


@pytest.mark.parametrize("name", GROUPS)
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = run(capsys, name, "--help")
    assert f"Usage: coinstream {name}" in text


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "--version") == f"coinstream {__version__}"


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (("tial",), "tail"),
        (("topics", "aply"), "apply"),
        (("broker", "strat"), "start"),
        (("--halp",), "--help"),
    ],
)
def test_a_slip_is_answered_with_what_was_meant(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], meant: str
) -> None:
    assert meant in run(capsys, *words, code=2).partition("Error")[2]


HEAVY = {"dagster", "great_expectations", "pyiceberg", "ccxt", "duckdb", "polars", "pandas"}


@pytest.mark.parametrize(
    ("words", "heavy"),
    [
        (["topics", "--help"], HEAVY),
        (["--help"], HEAVY | {"pydantic", "confluent_kafka", "msgspec", "rich.console", "asyncio"}),
        (["--version"], HEAVY | {"pydantic", "confluent_kafka", "msgspec", "rich.console", "asyncio"}),
    ],
)
def test_a_command_loads_only_what_it_needs(words: list[str], heavy: set[str]) -> None:
    code = (
        "import sys\n"
        "from coinstream.cli import main\n"
        f"try:\n    main({words!r})\n"
        "except SystemExit:\n    pass\n"
        f"print(sorted({heavy!r} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
