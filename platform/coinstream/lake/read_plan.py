"""What a reading covers, and how far it is: offsets only, no broker."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from operator import itemgetter
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from confluent_kafka import Message

from coinstream.errors import LakeError
from coinstream.lake.landed_offsets import LandedOffsets, TopicOffsets, is_another
from coinstream.records import is_unreadable, raw_headers
from coinstream.serialization import is_compressed

TopicPartition = tuple[str, int]
"""Topic and partition."""
OffsetRange = tuple[int, int]
"""An offset to begin with, and the offset to stop before."""
Ints = npt.NDArray[np.int64]

NO_TIMESTAMP: Final = -1
"""The timestamp of a record that has none."""
LATEST_MS: Final = 4_102_444_800_000
"""2100-01-01. A record timestamp beyond it is in another unit, as that of some foreign producers."""

HEADER_FAULT: Final = "the name of a header is not UTF-8"
"""Why a record is refused whose headers the client cannot read."""


@dataclass(frozen=True)
class ReadPlan:
    """What a reading covers.

    Attributes:
        spans: offsets to read, by topic and partition.
        ids: identity of each topic, where the broker tells it.
        lost: messages that retention removed before they were landed, by topic.
        recreated: topics that are others than when they were landed last.
    """

    spans: Mapping[TopicPartition, OffsetRange]
    ids: Mapping[str, str | None] = field(default_factory=dict)
    lost: Mapping[str, int] = field(default_factory=dict)
    recreated: tuple[str, ...] = ()

    @property
    def offsets(self) -> int:
        """How many offsets are to be read; control records and compacted messages occupy some of them."""
        return sum(max(stop - start, 0) for start, stop in self.spans.values())


def make_read_plan(
    ends: Mapping[TopicPartition, OffsetRange], ids: Mapping[str, str | None], landed: LandedOffsets
) -> ReadPlan:
    """From what is landed up to the end of every partition.

    Raises:
        LakeError: a table stands beyond the end of a topic.
    """
    spans: dict[TopicPartition, OffsetRange] = {}
    lost: dict[str, int] = {}
    recreated = []
    for topic, identity in ids.items():
        known = landed.topics.get(topic)
        if known is not None and is_another(known.topic_id, identity):
            recreated.append(topic)
    for (topic, partition), (low, high) in ends.items():
        start = landed.next(topic, partition, ids.get(topic))
        if start > high:
            raise LakeError(
                f"the table stands at offset {start} of {topic}[{partition}], but the topic ends "
                f"at {high}: it was recreated or truncated. Land it from its beginning: "
                f"`coinstream lake land --from-start {topic}`."
            )
        if start < low and topic in landed.topics and topic not in recreated:
            lost[topic] = lost.get(topic, 0) + low - start
        spans[topic, partition] = (max(start, low), high)
    return ReadPlan(spans, ids, lost, tuple(recreated))


def plan_up_to(plan: ReadPlan, landed: LandedOffsets, stops: Mapping[TopicPartition, int]) -> ReadPlan:
    """Return what is left of a plan, from what is landed now up to the given offsets."""
    spans = {
        partition: (max(start, landed.next(*partition, plan.ids.get(partition[0]))), stops[partition])
        for partition, (start, _) in plan.spans.items()
    }
    return ReadPlan(spans, plan.ids, plan.lost, plan.recreated)


@dataclass(frozen=True)
class FetchedChunk:
    """Messages as they came, column by column. `topic` indexes `topics`; timestamps are milliseconds."""

    topics: Sequence[str]
    topic: Ints
    partition: Ints
    offset: Ints
    timestamp: Ints
    payloads: pa.Array
    """Bytes as they came; null for a tombstone."""
    compressed: list[int]
    faults: Mapping[int, str] = field(default_factory=dict)
    """Why a record cannot be taken for a message whatever its payload, by its place in the chunk."""

    def __len__(self) -> int:
        return len(self.payloads)

    @cached_property
    def size(self) -> int:
        """Bytes of the payloads."""
        return int(pc.sum(pc.binary_length(self.payloads)).as_py() or 0)


class RecordColumns:
    """What is looked at of messages, column by column.

    Taken out of the client's objects at once, a few hundred at a time: of thousands, each would have
    left the processor's cache before it is looked at.
    """

    def __init__(self) -> None:
        self.topic: list[str | None] = []
        self.partition: list[int | None] = []
        self.offset: list[int | None] = []
        self.timestamp: list[int] = []
        self.headers: list[Any] = []
        self._payloads: list[pa.Array] = []

    def __len__(self) -> int:
        return len(self.offset)

    @property
    def payloads(self) -> pa.Array:
        """The messages' bytes."""
        return pa.concat_arrays(self._payloads) if self._payloads else pa.array([], pa.binary())

    def add(self, messages: list[Message]) -> None:
        """Take these in too."""
        self.topic += map(Message.topic, messages)
        self.partition += map(Message.partition, messages)
        self.offset += map(Message.offset, messages)
        self.timestamp += map(itemgetter(1), map(Message.timestamp, messages))
        self.headers += raw_headers(messages)
        self._payloads.append(pa.array(list(map(Message.value, messages)), pa.binary()))


class ReadProgress:
    """Which partitions of a plan are still to be read, and up to where."""

    def __init__(self, plan: ReadPlan) -> None:
        self.topics = sorted({topic for topic, _ in plan.spans})
        self._index = {topic: at for at, topic in enumerate(self.topics)}
        width = 1 + max((partition for _, partition in plan.spans), default=0)
        self._stops = np.full((len(self.topics), width), -1, np.int64)
        self._open: set[TopicPartition] = set()
        self._closed: list[TopicPartition] = []
        for place, (start, stop) in plan.spans.items():
            if stop > start:
                self._stops[self._index[place[0]], place[1]] = stop
                self._open.add(place)

    def is_open(self) -> bool:
        """Whether a partition is not at its stop yet."""
        return bool(self._open)

    def open_places(self) -> list[TopicPartition]:
        """The partitions that are not at their stop yet."""
        return sorted(self._open)

    def newly_closed(self) -> list[TopicPartition]:
        """The partitions that came to their stop since the last call."""
        closed, self._closed = self._closed, []
        return closed

    def at_end(self, place: TopicPartition) -> None:
        """Note that a partition has no more to give.

        It may rest before its stop: control records and open transactions occupy offsets too.
        """
        if place in self._open:
            self._open.remove(place)
            self._closed.append(place)
            self._stops[self._index[place[0]], place[1]] = -1

    def take(self, records: RecordColumns) -> FetchedChunk:
        """The records that lie before their partition's stop, as a chunk."""
        index: Callable[[Any], int] = self._index.__getitem__
        topic = np.fromiter(map(index, records.topic), np.int64, len(records))
        partition = np.array(records.partition, np.int64)
        offset = np.array(records.offset, np.int64)
        timestamp = np.array(records.timestamp, np.int64)
        headers, payloads = records.headers, records.payloads
        faults = _header_faults(headers) | _time_faults(timestamp)
        wanted = offset < self._stops[topic, partition]
        if not wanted.all():
            kept = np.flatnonzero(wanted)
            topic, partition, offset, timestamp = (
                column[kept] for column in (topic, partition, offset, timestamp)
            )
            headers, payloads = [headers[at] for at in kept], payloads.take(pa.array(kept))
            faults = {place: faults[at] for place, at in enumerate(kept.tolist()) if at in faults}
        self._note(topic, partition, offset)
        compressed = (
            [at for at, found in enumerate(headers) if found and at not in faults and _says_compressed(found)]
            if any(headers)
            else []
        )
        return FetchedChunk(self.topics, topic, partition, offset, timestamp, payloads, compressed, faults)

    def _note(self, topic: Ints, partition: Ints, offset: Ints) -> None:
        reached = np.full_like(self._stops, -2)
        # Offsets of a partition rise, and of equal indexes the last value stays.
        reached[topic, partition] = offset + 1
        for at, part in np.argwhere((self._stops >= 0) & (reached >= self._stops)).tolist():
            self.at_end((self.topics[at], part))


def _header_faults(headers: list[Any]) -> dict[int, str]:
    if not any(headers):
        return {}
    return {at: HEADER_FAULT for at, found in enumerate(headers) if is_unreadable(found)}


def _time_faults(timestamp: Ints) -> dict[int, str]:
    """Return what is wrong with record timestamps that are in microseconds, or in no unit at all."""
    wrong = (timestamp < NO_TIMESTAMP) | (timestamp > LATEST_MS)
    return {
        int(at): f"record timestamp {timestamp[at]} is not in milliseconds since 1970"
        for at in np.flatnonzero(wrong)
    }


def _says_compressed(headers: Any) -> bool:
    return is_compressed(list(headers.items()) if isinstance(headers, dict) else headers)


def offsets_after(chunk: FetchedChunk, ids: Mapping[str, str | None]) -> LandedOffsets:
    """The next offsets after the messages of a chunk."""
    nexts: dict[str, dict[int, int]] = {}
    width = int(chunk.partition.max(initial=0)) + 1
    reached = np.zeros((len(chunk.topics), width), np.int64)
    reached[chunk.topic, chunk.partition] = chunk.offset + 1
    for at, partition in np.argwhere(reached > 0).tolist():
        nexts.setdefault(chunk.topics[at], {})[partition] = int(reached[at, partition])
    return LandedOffsets({topic: TopicOffsets(parts, ids.get(topic)) for topic, parts in nexts.items()})
