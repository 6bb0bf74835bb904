"""Test how the output of a page is compared with the output of its commands."""

from __future__ import annotations

import pytest

from tests.docs.outputs import mismatch


@pytest.mark.parametrize(
    ("shown", "real"),
    [
        ("landed 3 rows", "landed 3 rows\n"),
        ("landed <number> rows", "landed 12,345 rows"),
        ("at <number> ms", "at -0.25 ms"),
        ("at <number>", "at 1e-08"),
        ("port <number>:<number>", "port 127:9092"),
        ("id ...", "id 6f2c-11 (new)"),
        ("id ... done", "id x y done"),
        ("a\n...\nz", "a\nb\nc\nz"),
        ("a\n...\nz", "a\nz"),
        ("...\nz", "z"),
        ("a\n...", "a"),
        ("a   b\n\nc", "a b  \nc\n\n"),
        ("┃ a ┃", "┃ a      ┃"),
        ("red", "\x1b[31mred\x1b[0m"),
        ("[a]* (b) \\d", "[a]* (b) \\d"),
    ],
)
def test_equal_outputs_match(shown: str, real: str) -> None:
    assert mismatch(shown, real) is None


@pytest.mark.parametrize(
    ("shown", "real"),
    [
        ("landed 3 rows", "landed 4 rows"),
        ("landed <number> rows", "landed <number> messages"),
        ("landed <number> rows", "landed no rows"),
        ("landed <number> rows", "landed 1 2 rows"),
        ("landed <number>", "landed 12abc"),
        ("id ... done", "id 5 failed"),
        ("id ...", "id 5\nid 6"),
        ("a\n...\nz", "a\nb\nc"),
        ("a\nz", "a\nb\nz"),
        ("a\nb", "b\na"),
        ("a\nb", "a"),
        ("a", "a\nb"),
        ("a", ""),
        ("a.c", "abc"),
        ("", "a"),
    ],
)
def test_a_changed_output_is_found(shown: str, real: str) -> None:
    assert mismatch(shown, real)


def test_the_difference_names_both_sides() -> None:
    found = str(mismatch("status OK\nlag <number>", "status STALL\nlag 5"))
    assert "-status OK" in found
    assert "+status STALL" in found


def test_a_part_of_an_output_may_be_shown() -> None:
    assert mismatch("b\nc", "a\nb\nc\nd", part=True) is None
    assert mismatch("b\nd", "a\nb\nc\nd", part=True)
    assert mismatch("b\nc", "a\nb\nc\nd")
