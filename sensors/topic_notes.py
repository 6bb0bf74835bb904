"""Encode the lag sensor's state of each topic compactly for its cursor."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any, Final

from assets.topic_health import HEALTH_CHECK, LAG_CHECK

_CHECKS: Final = (LAG_CHECK, HEALTH_CHECK)


def pack(notes: Mapping[str, Any]) -> dict[str, list[int]]:
    """Return notes of topics as lists of whole numbers; a check that failed has a negative time."""
    return {topic: _packed(known) for topic, known in notes.items()}


def unpack(packed: Mapping[str, Any]) -> dict[str, Any]:
    """Return the notes of `pack`. Those of an earlier release stay as they are."""
    return {topic: _unpacked(known) if isinstance(known, list) else known for topic, known in packed.items()}


def signature(*figures: object) -> int:
    """Return a number that differs when the figures of a topic do."""
    return zlib.crc32(repr(figures).encode())


def _packed(known: Mapping[str, Any]) -> list[int]:
    numbers = [int(known["at"]), int(known["shown"] or 0)]
    for name in _CHECKS:
        at, passed = known["checks"].get(name, (0, True))
        numbers.append(int(at) if passed else -int(at))
    return numbers + [int(number) for number in known.get("dead", ())]


def _unpacked(numbers: list[int]) -> dict[str, Any]:
    at, shown, *rest = numbers
    times = zip(_CHECKS, rest[: len(_CHECKS)], strict=True)
    checks = {name: [abs(time), time > 0] for name, time in times if time}
    known: dict[str, Any] = {"at": at, "shown": shown or None, "checks": checks}
    if dead := rest[len(_CHECKS) :]:
        known["dead"] = dead
    return known
