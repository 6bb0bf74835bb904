"""Check the subject of a commit message: `python scripts/commit_subject.py FILE`.

A subject is `area: imperative summary`, at most 72 characters long, without a period at its end.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Final

MAX_LENGTH: Final = 72
_SUBJECT: Final = re.compile(r"(?P<area>[a-z0-9][a-z0-9_./-]*(, ?[a-z0-9_./-]+)*): (?P<summary>\S.*)")
_GENERATED: Final = ("Merge ", "Revert ", "fixup! ", "squash! ", "amend! ")
_NOT_IMPERATIVE: Final = re.compile(
    r"(?:(?!embed|exceed|feed|need|proceed|seed|shed|speed|succeed)\w+ed"
    r"|(?!bring|ping|ring|string)\w+ing|adds|fixes|makes|removes|uses|changes|updates)\b",
    re.IGNORECASE,
)


def fault_of(message: str) -> str | None:
    """Return what is wrong with the subject of a commit message, or None."""
    lines = [line for line in message.splitlines() if not line.startswith("#")]
    subject = next(iter(lines), "")
    if subject.startswith(_GENERATED):
        return None
    found = _SUBJECT.fullmatch(subject)
    if found is None:
        return "write `area: imperative summary`, for example `lake: retry a refused commit`"
    if len(subject) > MAX_LENGTH:
        return f"the subject has {len(subject)} characters; {MAX_LENGTH} are allowed"
    if subject.endswith("."):
        return "remove the period at the end of the subject"
    word = found["summary"].split()[0]
    if _NOT_IMPERATIVE.match(word):
        return f"begin the summary with an imperative verb, not with {word!r}"
    if len(lines) > 1 and lines[1].strip():
        return "leave the line after the subject empty"
    return None


def main(arguments: list[str]) -> int:
    """Return 1 and print the fault if the message in the file has one, else 0."""
    fault = fault_of(Path(arguments[0]).read_text(encoding="utf-8"))
    if fault is not None:
        print(f"commit subject: {fault}", file=sys.stderr)
    return int(fault is not None)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
