"""Suggest names for a mistyped one."""

from __future__ import annotations

import difflib
from collections.abc import Collection
from typing import Final

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
