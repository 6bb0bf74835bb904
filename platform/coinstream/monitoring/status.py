"""Define the health of a component."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Final


class Status(StrEnum):
    """Health of a component. Worst last."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"


_RANK: Final = {status: rank for rank, status in enumerate(Status)}


def worst_status(statuses: Iterable[Status]) -> Status:
    """Return the worst of some; healthy of none."""
    return max(statuses, key=_RANK.__getitem__, default=Status.HEALTHY)
