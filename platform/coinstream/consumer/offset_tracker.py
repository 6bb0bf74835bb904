"""Which offset may be committed: everything below it has been handled."""

from __future__ import annotations


class OffsetTracker:
    """The progress of one partition.

    Messages are handled in order, but some are set aside on the way (a dead letter that the cluster
    has not acknowledged yet). The position stays below the first of those until it is settled.
    """

    __slots__ = ("_next", "_pending_offsets")

    def __init__(self) -> None:
        self._next: int | None = None
        self._pending_offsets: set[int] = set()

    def advance(self, following: int) -> None:
        """Every message below `following` is handled, or pending. Going back has no effect."""
        if self._next is None or following > self._next:
            self._next = following

    def mark_pending(self, offset: int) -> None:
        """This message is not settled yet, while those behind it go on. Hold it before advancing past it."""
        self._pending_offsets.add(offset)

    def release(self, offset: int) -> None:
        """A pending message is settled."""
        self._pending_offsets.discard(offset)

    @property
    def pending(self) -> int:
        """How many messages are pending."""
        return len(self._pending_offsets)

    @property
    def position(self) -> int | None:
        """The offset to commit: that of the first message not settled. None: nothing was handled."""
        if self._next is None:
            return None
        return min(self._next, min(self._pending_offsets)) if self._pending_offsets else self._next
