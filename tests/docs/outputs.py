"""Compare the output that a page shows with the output of its commands.

In a page, `<number>` stands for one number, and `...` for any text on its line. A line of only `...` stands
for any number of lines. Everything else must be equal, except for empty lines and the amount of space.
"""

from __future__ import annotations

import difflib
import re
from functools import cache
from typing import Final

ANY: Final = "..."
NUMBER: Final = "<number>"
_NUMBER: Final = r"[-+]?\d+(?:[,_]\d{3})*(?:\.\d+)?(?:[eE][-+]?\d+)?"
_STYLES: Final = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def mismatch(shown: str, real: str, *, part: bool = False) -> str | None:
    """Return how the real output differs from the one that a page shows; None if it does not.

    Args:
        shown: the block of the page, with its placeholders.
        real: what the commands printed.
        part: whether other lines may precede and follow, as in the output of a process that still runs.
    """
    expected, printed = _lines(shown), _lines(real)
    if not expected:
        return "the page shows an empty output"
    if part:
        expected = [ANY, *expected, ANY]
    if _matches(expected, printed):
        return None
    return "\n".join(difflib.unified_diff(expected, printed, "page", "output", lineterm=""))


def _matches(expected: list[str], printed: list[str]) -> bool:
    # How many of the printed lines the lines of the page can account for, after each of those lines.
    reached = {0}
    for line in expected:
        if line == ANY:
            reached = set(range(min(reached), len(printed) + 1))
        else:
            pattern = _pattern(line)
            reached = {at + 1 for at in reached if at < len(printed) and pattern.fullmatch(printed[at])}
        if not reached:
            return False
    return len(printed) in reached


@cache
def _pattern(line: str) -> re.Pattern[str]:
    parts = re.split(rf"({re.escape(ANY)}|{re.escape(NUMBER)})", line)
    known = {ANY: r".*", NUMBER: _NUMBER}
    return re.compile("".join(known.get(part) or re.escape(part) for part in parts))


def _lines(text: str) -> list[str]:
    plain = (re.sub(r"\s+", " ", line).strip() for line in _STYLES.sub("", text).splitlines())
    return [line for line in plain if line]
