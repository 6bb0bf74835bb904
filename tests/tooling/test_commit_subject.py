"""Test the commit subjects that the hook accepts."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.commit_subject import MAX_LENGTH, fault_of, main


@pytest.mark.parametrize(
    "message",
    [
        "lake: retry a refused commit",
        "cli, docs: name the host that does not resolve",
        "feeds/kraken: cut books to their depth\n\nKraken sends no removal beyond it.",
        "tests: embed the recording",
        "Merge branch 'main'",
        "fixup! lake: retry a refused commit",
        "a: " + "b" * (MAX_LENGTH - 3),
    ],
)
def test_a_good_subject_passes(message: str) -> None:
    assert fault_of(message) is None


@pytest.mark.parametrize(
    ("message", "fault"),
    [
        ("", "area: imperative summary"),
        ("Retry a refused commit", "area: imperative summary"),
        ("lake:retry", "area: imperative summary"),
        ("a: " + "b" * (MAX_LENGTH - 2), "73 characters"),
        ("lake: retry a refused commit.", "period"),
        ("lake: retried a refused commit", "imperative"),
        ("lake: retrying a refused commit", "imperative"),
        ("lake: adds a retry", "imperative"),
        ("lake: retry a refused commit\nat once", "empty"),
    ],
)
def test_a_bad_subject_is_refused_with_the_reason(message: str, fault: str) -> None:
    assert fault in str(fault_of(message))


def test_the_hook_prints_the_fault(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "message"
    file.write_text("# a comment of git\nWrong\n")
    assert main([str(file)]) == 1
    assert "commit subject: write" in capsys.readouterr().err
    file.write_text("docs: explain partitions\n")
    assert main([str(file)]) == 0
