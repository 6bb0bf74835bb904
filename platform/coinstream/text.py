"""Format untrusted text, bytes and times for display, and suggest names for a mistyped one."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection
from datetime import UTC, datetime
from typing import Final

_UNSAFE: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)
"""Control characters, terminal escapes, marks that reorder or hide text, and lone surrogates."""


def printable(text: str, *, keep_newlines: bool = False) -> str:
    r"""Return text without characters that a terminal interprets: `\x1b` instead of an escape character.

    Args:
        text: untrusted text, for example of a message, a key, an error or a group id.
        keep_newlines: leave line feeds as they are.
    """
    return _UNSAFE.sub(lambda found: _escape(found.group(), keep_newlines=keep_newlines), text)


def printable_json(text: str) -> str:
    r"""Return an equivalent JSON document without control characters: `\u001b` in strings."""
    return _UNSAFE.sub(lambda found: _json_escape(found.group()), text)


def readable(content: bytes | None) -> str:
    """Return bytes as safe text. Bytes that are not UTF-8 are escaped; None becomes an empty string."""
    return "" if content is None else printable(content.decode("utf-8", errors="backslashreplace"))


def format_timestamp(at_ms: int) -> str | None:
    """Return a record timestamp in ISO-8601; None if there is none.

    A value after the year 9999, for example in microseconds, is returned as a number.
    """
    if at_ms < 0:
        return None
    try:
        moment = datetime.fromtimestamp(at_ms / 1000, UTC)
    except (OverflowError, ValueError, OSError):
        return str(at_ms)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse_time(text: str) -> datetime:
    """Return the time of ISO-8601 text; one without an offset is UTC.

    Raises:
        ValueError: the text is no time.
    """
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValueError(
            f'invalid time "{printable(text)}"; expected ISO 8601, for example 2026-01-05T10:00Z'
        ) from None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def _escape(character: str, *, keep_newlines: bool) -> str:
    if character == "\n" and keep_newlines:
        return character
    return character.encode("unicode_escape").decode("ascii")


def _json_escape(character: str) -> str:
    code = ord(character)
    if code > 0xFFFF:
        code -= 0x10000
        return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"
    return f"\\u{code:04x}"


_MOST: Final = 3
_MANY: Final = 12


def did_you_mean(word: str, known: Collection[str]) -> str:
    """Return a sentence with similar names (`did you mean a or b?`), else with all names or their number."""
    near = difflib.get_close_matches(word.lower(), known, n=_MOST)
    if near:
        return f"did you mean {' or '.join(near)}?"
    if not known:
        return "there are none."
    if len(known) > _MANY:
        return f"none of the {len(known)} there are is near."
    return f"there are: {', '.join(sorted(known))}."


def no_such_topic(topic: str, there: Collection[str], brokers: str) -> str:
    """Return the error for a topic that does not exist on a cluster."""
    near = difflib.get_close_matches(topic, [name for name in there if not name.startswith("__")], n=_MOST)
    hint = f"did you mean {' or '.join(near)}?" if near else "`coinstream topics list` shows those that do."
    return f"topic {topic} does not exist at {brokers}; {hint}"
