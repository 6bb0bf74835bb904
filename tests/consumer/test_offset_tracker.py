"""Compare the offset to commit with a model that stores every message."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from coinstream.consumer.partition_state import OffsetTracker


def test_nothing_to_commit_before_anything_is_handled() -> None:
    tracker = OffsetTracker()
    assert tracker.position is None
    tracker.mark_pending(5)
    assert tracker.position is None


def test_position_waits_for_a_held_message() -> None:
    tracker = OffsetTracker()
    tracker.mark_pending(7)
    tracker.advance(12)
    assert tracker.position == 7
    tracker.release(7)
    assert tracker.position == 12


@given(
    start=st.integers(0, 2**40),
    gaps=st.lists(st.integers(1, 3), min_size=1, max_size=60),
    data=st.data(),
)
def test_commits_up_to_the_last_message_whose_predecessors_are_all_settled(
    start: int, gaps: list[int], data: st.DataObject
) -> None:
    offsets = [start]
    for gap in gaps:
        offsets.append(offsets[-1] + gap)
    tracker = OffsetTracker()
    settled: set[int] = set()
    pending: list[int] = []
    highest = -1
    for at, offset in enumerate(offsets):
        if data.draw(st.booleans(), label="pending"):
            tracker.mark_pending(offset)
            pending.append(offset)
        else:
            settled.add(offset)
        tracker.advance(offset + 1)
        while len(pending) > 0 and data.draw(st.booleans(), label="release one"):
            freed = pending.pop(data.draw(st.integers(0, len(pending) - 1)))
            tracker.release(freed)
            settled.add(freed)
        position = tracker.position
        assert position is not None
        # Never past a message that is not settled, and not before the first such one either.
        open_ones = [each for each in offsets[: at + 1] if each not in settled]
        assert position == (open_ones[0] if open_ones else offset + 1)
        # A committed offset never goes back.
        assert position >= highest
        highest = position
    assert tracker.pending == len(pending)


@given(st.lists(st.integers(0, 1000), min_size=1))
def test_advancing_back_changes_nothing(offsets: list[int]) -> None:
    tracker = OffsetTracker()
    for offset in offsets:
        tracker.advance(offset)
    assert tracker.position == max(offsets)
