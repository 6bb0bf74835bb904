"""Stop a member: on request, or with the first error of any of its threads."""

from __future__ import annotations

import logging
import threading

from coinstream.errors import CoinstreamError, ConsumeError

log = logging.getLogger("coinstream.consumer")


class StopSignal:
    """Tells the polling thread to stop, and keeps the first error.

    Attributes:
        error: why the member stops; None if it was asked to.
    """

    def __init__(self, group: str) -> None:
        self._group = group
        self._event = threading.Event()
        self._lock = threading.Lock()
        self.error: CoinstreamError | None = None

    def is_set(self) -> bool:
        """Return whether the member is to stop."""
        return self._event.is_set()

    def set(self) -> None:
        """Ask the member to stop."""
        self._event.set()

    def fail(self, error: CoinstreamError) -> None:
        """Stop with an error; an earlier one is kept."""
        with self._lock:
            is_first, self.error = self.error is None, self.error or error
        if is_first:
            log.error("group %s stops: %s", self._group, error)
        self._event.set()

    def crash(self, error: BaseException) -> None:
        """Stop with whatever a worker thread raised."""
        if not isinstance(error, CoinstreamError):
            error = ConsumeError(f"group {self._group} stops: {type(error).__name__}: {error}")
        self.fail(error)
