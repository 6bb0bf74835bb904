"""The command line explains itself and forgives a slip of the finger."""

from __future__ import annotations

import subprocess
import sys

import pytest

from coinstream import __version__
from coinstream.cli import GROUPS, main


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


def test_a_command_loads_only_what_it_needs() -> None:
    heavy = {"dagster", "great_expectations", "pyiceberg", "ccxt", "duckdb", "polars", "pandas"}
    code = (
        "import sys\n"
        "from coinstream.cli import main\n"
        "try:\n    main(['topics', '--help'])\n"
        "except SystemExit:\n    pass\n"
        f"print(sorted({heavy!r} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
