"""Extract shell commands, files and Python snippets from the documentation."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
_FENCE: Final = re.compile(r"^( *)```(\w*)(?: title=\"(.+)\")?\s*$")
SHELLS: Final = ("bash", "sh", "console")
_PROGRAMS: Final = (
    "make|coinstream|python|pytest|pip|git|export|source|cd|curl"
    "|docker|helm|kubectl|promtool|rpk|dagster|apt-get"
)
_COMMAND: Final = re.compile(rf"^(?:[A-Z_]+=\S+ )*(?:{_PROGRAMS})\b")
"""What a command looks like in a block that does not say that it is one."""
_REMARK: Final = re.compile(r"""\s+# [^"']*$""")


@dataclass
class Page:
    """A page: the commands in their order, the files that it has its readers write, and the snippets."""

    name: str
    commands: list[str] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)
    snippets: list[str] = field(default_factory=list)


def pages() -> list[Page]:
    """README and everything under docs/, made pages left out, in the order in which people read."""
    made = {"commands.md", "settings.md"}
    guides = [path for path in (ROOT / "docs").rglob("*.md") if path.name not in made]
    paths = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "examples" / "extension" / "README.md"]
    return [_page(path) for path in [*paths, *sorted(guides)]]


def is_followed(name: str) -> bool:
    """Return whether a page is followed step by step, with its outputs compared."""
    return name.startswith(("docs/tutorial", "docs/how-to/"))


def _page(path: Path) -> Page:
    page = Page(str(path.relative_to(ROOT)))
    outside: list[str] = []
    for language, title, lines in blocks(path.read_text().splitlines(), outside):
        if title is not None:
            page.files[title] = "\n".join(lines) + "\n"
        elif language == "python":
            page.snippets.append("\n".join(lines))
        elif language in (*SHELLS, ""):
            page.commands += commands(lines, every=language in SHELLS)
    page.commands += commands([line[4:] for line in outside if line.startswith("    ")], every=False)
    return page


def blocks(lines: list[str], outside: list[str]) -> Iterator[tuple[str, str | None, list[str]]]:
    """Yield language, title and lines of each fenced block; add the lines outside to `outside`."""
    rest = iter(lines)
    for line in rest:
        found = _FENCE.match(line)
        if found is None:
            outside.append(line)
            continue
        indent, language, title = found.groups()
        body = []
        for inner in rest:
            if inner.strip() == "```":
                break
            body.append(inner.removeprefix(indent))
        yield language, title, body


def commands(lines: list[str], *, every: bool) -> Iterator[str]:
    """Yield the commands of a block, without comments."""
    whole = "\n".join(lines).replace("\\\n", " ")
    for line in whole.splitlines():
        text = _REMARK.sub("", line.strip().removeprefix("$ "))
        if text and not text.startswith("#") and (every or _COMMAND.match(text)):
            yield text
