"""Remove secrets such as keys in signed URLs from errors before they are logged or reported."""

from __future__ import annotations

import re
from typing import Final

_SECRET: Final = re.compile(
    r"(?i)((?:signature|sign|api[-_]?key|access[-_]?key|secret|passphrase|password|token)[\"']?\s*[=:]\s*[\"']?)"
    r"[^&\s\"',}]+"
)


def redacted(error: object, limit: int = 300) -> str:
    """Return the text of an error without the values of keys, signatures and tokens."""
    return _SECRET.sub(r"\1***", str(error) or type(error).__name__)[:limit]
