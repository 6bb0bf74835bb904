"""Extract prose from Markdown pages and from the docstrings, comments and messages of Python modules."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

_CODE: Final = re.compile(r"``[^`]*``|`[^`]*`|\bhttps?://\S+")
_HELP: Final = frozenset({"help", "description", "epilog", "short_help"})
"""Keyword arguments whose text is shown to users: options, settings, assets, jobs, sensors, checks."""
_OUTPUT: Final = re.compile(r"(Error|Exception|BadParameter|print|warning|error|info|echo)$")
"""Names of calls whose text is shown to users: exceptions, logs and terminal output."""


class Passage(NamedTuple):
    """Consecutive prose without code, with its line breaks replaced by spaces."""

    line: int
    text: str


def markdown(text: str) -> list[Passage]:
    """Return the paragraphs of a page without code."""
    passages: list[Passage] = []
    fence, start, lines = "", 0, list[str]()
    for number, line in enumerate([*text.splitlines(), ""], 1):
        mark = line.lstrip()[:3]
        is_fence = mark in {"```", "~~~"} and fence in {"", mark}
        is_prose = bool(line.strip()) and not fence and not is_fence
        if is_fence:
            fence = "" if fence else mark
        if is_prose:
            start = start or number
            lines.append(line)
        elif lines:
            passages.append(Passage(start, _plain(" ".join(lines))))
            start, lines = 0, []
    return passages


def python(source: str) -> list[Passage]:
    """Return the prose of a module."""
    found = [*_docstrings(source), *_shown(ast.parse(source)), *_comments(source)]
    return [Passage(line, _plain(text)) for line, text in sorted(found)]


def summaries(source: str) -> Iterator[Passage]:
    """Yield the first line of each docstring."""
    for line, text in _docstrings(source):
        yield Passage(line, text.strip().split("\n")[0])


@cache
def _docstrings(source: str) -> list[tuple[int, str]]:
    """Return docstrings, also those of attributes."""
    values = [node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Expr)]
    return [
        (value.lineno, value.value)
        for value in values
        if isinstance(value, ast.Constant) and isinstance(value.value, str)
    ]


def _shown(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        parts = [item.value for item in node.keywords if item.arg in _HELP]
        if _OUTPUT.search(_name(node.func)):
            parts += node.args
        for part in parts:
            text = _literal(part)
            if text:
                yield part.lineno, text


def _name(function: ast.expr) -> str:
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def _literal(part: ast.expr) -> str:
    """Return the text of an expression, with a code span for each value in an f-string."""
    if isinstance(part, ast.Constant) and isinstance(part.value, str):
        return part.value
    if isinstance(part, ast.JoinedStr):
        return "".join(_literal(value) or "`…`" for value in part.values)
    if isinstance(part, ast.BinOp):
        return _literal(part.left) + _literal(part.right)
    if isinstance(part, ast.IfExp):
        return f"{_literal(part.body)}\n{_literal(part.orelse)}"
    return ""


def _comments(source: str) -> Iterator[tuple[int, str]]:
    """Yield comments; those of consecutive lines are one."""
    start, last, lines = 0, -1, list[str]()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT:
            continue
        if token.start[0] != last + 1 and lines:
            yield start, " ".join(lines)
            lines = []
        start = start if lines else token.start[0]
        lines.append(token.string.lstrip("# "))
        last = token.start[0]
    if lines:
        yield start, " ".join(lines)


def _plain(text: str) -> str:
    """Return text on one line, without code and Markdown emphasis."""
    without_code = _CODE.sub("`…`", text)
    return re.sub(r"\s+", " ", re.sub(r"(?<!\w)[*_]+|[*_]+(?!\w)", "", without_code)).strip()


def modules(root: Path) -> list[Path]:
    """Return the Python modules of the project, without generated ones."""
    folders = ("platform", "assets", "sensors", "resources", "scripts", "examples", "notebooks", "benchmarks")
    return [
        *root.glob("*.py"),
        *(path for folder in folders for path in sorted((root / folder).rglob("*.py"))),
    ]
