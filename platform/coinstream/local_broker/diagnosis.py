"""Reads a node's log for the reason of its death. Rules, tried in order; the first that matches wins."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from coinstream.local_broker.properties import NodePlan

_TAIL_BYTES = 200_000

_FULL_BYTES = 1_000_000
"""With less free than a batch of messages takes, a disk counts as full."""


@dataclass(frozen=True, slots=True)
class _Rule:
    pattern: str
    reason: str
    """`{data}` stands for the data folder, `{addresses}` for the node's listeners."""

    def told(self, plan: NodePlan) -> str:
        """Return the reason, of this node."""
        addresses = ", ".join(plan.address(name) for name in plan.ports)
        return self.reason.format(data=plan.data, addresses=addresses)


_NO_SPACE = _Rule(
    r"No space left on device|Disk quota exceeded|File too large",
    "no space is left for {data}: make room, or set COINSTREAM_HOME to a larger disk",
)

_RULES = (
    _NO_SPACE,
    _Rule(
        r"Address already in use|BindException|Socket server failed to bind",
        "one of the ports {addresses} is taken: stop its owner, or choose another port",
    ),
    _Rule(
        r"Failed to acquire lock on file|OverlappingFileLockException",
        "another Kafka uses {data}: stop it first",
    ),
    _Rule(
        r"OutOfMemoryError|Could not reserve enough space|insufficient memory",
        "Java ran out of memory: give it a larger heap, or free memory",
    ),
    _Rule(
        r"Permission denied|AccessDeniedException|Read-only file system",
        "{data} cannot be written: give this user the right, or set COINSTREAM_HOME to another folder",
    ),
    _Rule(
        r"CorruptRecordException|InconsistentClusterIdException|meta\.properties|LogDirNotFound"
        r"|KafkaStorageException|CorruptSnapshot|checkpoint|is corrupt|Invalid magic|Malformed"
        r"|Error while loading log dir|JsonParseException|com\.fasterxml\.jackson",
        "{data} is corrupt: move it away to start empty, or restore it from a copy",
    ),
    _Rule(
        r"ConfigException|Invalid value .* for configuration",
        "a server property is not accepted: see the first error of the log",
    ),
)


def why_it_died(plan: NodePlan) -> str:
    """Return the likely reason, and what to do; the last error of the log if no rule knows it."""
    # A log on the disk that is full could not always be told of it.
    if plan.folder.is_dir() and shutil.disk_usage(plan.folder).free < _FULL_BYTES:
        return _NO_SPACE.told(plan)
    return reason_in(_tail(plan.log) + _tail(plan.output), plan)


def reason_in(text: str, plan: NodePlan) -> str:
    """Return the same from the output of one of Kafka's programs for this node."""
    for rule in _RULES:
        if re.search(rule.pattern, text):
            return rule.told(plan)
    return _last_error(text)


def _last_error(text: str) -> str:
    lines = (line for line in text.splitlines() if not line.lstrip().startswith("at "))
    errors = [line for line in lines if re.search(r" (ERROR|FATAL) |[Ee]rror:|Exception", line)]
    return f"its last error is `{errors[-1].strip()[:300]}`" if errors else "it left no error in its log"


def _tail(path: Path) -> str:
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
        return file.read().decode("utf-8", errors="replace")
