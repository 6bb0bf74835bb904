"""Select topics, and plan and track the reading of offsets, without a broker."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import repeat
from operator import itemgetter
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from confluent_kafka import Message

from coinstream.errors import LakeError
from coinstream.kafka.records import has_headers, is_unreadable, raw_headers
from coinstream.lake.landed_offsets import LandedOffsets, is_another
from coinstream.serialization import is_compressed
from coinstream.settings import LakeSettings
from coinstream.topics.catalogue import DEAD_LETTER_SUFFIX

TopicPartition = tuple[str, int]
"""Topic and partition."""
OffsetRange = tuple[int, int]
"""First offset, and the offset after the last."""
Ints = npt.NDArray[np.int64]

NO_TIMESTAMP: Final = -1
"""Timestamp of a record without a timestamp."""
LATEST_MS: Final = 4_102_444_800_000
"""2100-01-01. Later record timestamps are in another unit, as written by some foreign producers."""

HEADER_FAULT: Final = "the name of a header is not UTF-8"
"""Reason of a record whose headers the client cannot read."""


@dataclass(frozen=True)
class ReadPlan:
    """Offsets to read.

    Attributes:
        spans: offsets to read, by topic and partition.
        ids: id of each topic, if the broker has topic ids.
        lost: messages deleted by retention before they were landed, by topic.
        recreated: topics recreated since they were landed.
    """

    spans: Mapping[TopicPartition, OffsetRange]
    ids: Mapping[str, str | None] = field(default_factory=dict)
    lost: Mapping[str, int] = field(default_factory=dict)
    recreated: tuple[str, ...] = ()

    @property
    def offsets(self) -> int:
        """Return the number of offsets to read, including control records and compacted messages."""
        return sum(max(stop - start, 0) for start, stop in self.spans.values())


def make_read_plan(
    ends: Mapping[TopicPartition, OffsetRange], ids: Mapping[str, str | None], landed: LandedOffsets
) -> ReadPlan:
    """Return the plan from the landed offsets to the end of every partition.

    Raises:
        LakeError: the landed offset is after the end of a topic.
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
                f"the landed offset of {topic}[{partition}] is {start}, but the topic ends "
                f"at {high}: it was recreated or truncated. Land it from its beginning: "
                f"`coinstream lake land --from-start {topic}`."
            )
        if start < low and topic in landed.topics and topic not in recreated:
            lost[topic] = lost.get(topic, 0) + low - start
        spans[topic, partition] = (max(start, low), high)
    return ReadPlan(spans, ids, lost, tuple(recreated))


def plan_up_to(plan: ReadPlan, landed: LandedOffsets, stops: Mapping[TopicPartition, int]) -> ReadPlan:
    """Return the rest of a plan, from the landed offsets to the given ones."""
    spans = {
        partition: (max(start, landed.next(*partition, plan.ids.get(partition[0]))), stops[partition])
        for partition, (start, _) in plan.spans.items()
    }
    return ReadPlan(spans, plan.ids, plan.lost, plan.recreated)


@dataclass(frozen=True)
class FetchedChunk:
    """Fetched records as columns. `topic` indexes `topics`; timestamps are in milliseconds."""

    topics: Sequence[str]
    topic: Ints
    partition: Ints
    offset: Ints
    timestamp: Ints
    payloads: pa.Array
    """Original bytes; null for a tombstone."""
    compressed: list[int]
    faults: Mapping[int, str] = field(default_factory=dict)
    """Errors of records outside of their payload, by index in the chunk."""

    def __len__(self) -> int:
        return len(self.payloads)

    @cached_property
    def size(self) -> int:
        """Return the bytes of the payloads."""
        return int(pc.sum(pc.binary_length(self.payloads)).as_py() or 0)


class RecordColumns:
    """Fields of records of some topics as columns.

    They are extracted from a few hundred client objects at a time, which stay in the processor's cache.
    """

    def __init__(self, topics: Sequence[str]) -> None:
        self._index: dict[str | None, int] = {topic: at for at, topic in enumerate(topics)}
        self._count = 0
        self._numbers: list[list[Ints]] = [[np.zeros(0, np.int64)] for _ in range(4)]
        self._payloads: list[pa.Array] = [pa.array([], pa.binary())]
        self.headers: dict[int, Any] = {}  # of the records that have any, by index

    def __len__(self) -> int:
        return self._count

    def numbers(self) -> tuple[Ints, Ints, Ints, Ints]:
        """Return index of the topic, partition, offset and timestamp of each record."""
        topic, partition, offset, timestamp = map(np.concatenate, self._numbers)
        return topic, partition, offset, timestamp

    @property
    def payloads(self) -> pa.Array:
        """Return the payloads."""
        return pa.concat_arrays(self._payloads)

    def add(self, messages: list[Message]) -> None:
        """Add records."""
        count = len(messages)
        named = map(self._index.__getitem__, map(Message.topic, messages))
        columns: tuple[Iterable[Any], ...] = (
            named if len(self._index) > 1 else repeat(0),
            map(Message.partition, messages),
            map(Message.offset, messages),
            map(itemgetter(1), map(Message.timestamp, messages)),
        )
        for known, column in zip(self._numbers, columns, strict=True):
            known.append(np.fromiter(column, np.int64, count))
        if has_headers(messages):
            found = enumerate(raw_headers(messages), self._count)
            self.headers |= {at: headers for at, headers in found if headers}
        self._payloads.append(_payloads(list(map(Message.value, messages))))
        self._count += count


def _payloads(values: list[Any]) -> pa.Array:
    """Return payloads as an array, joined at once if each of them is bytes, which no tombstone is."""
    try:
        data = b"".join(values)
    except TypeError:
        return pa.array(values, pa.binary())
    if len(data) > np.iinfo(np.int32).max:
        return pa.array(values, pa.binary())
    stops = np.zeros(len(values) + 1, np.int32)
    np.cumsum(np.fromiter(map(len, values), np.int32, len(values)), out=stops[1:])
    buffers = [None, pa.py_buffer(stops), pa.py_buffer(data)]
    return pa.Array.from_buffers(pa.binary(), len(values), buffers, null_count=0)


class ReadProgress:
    """Progress of a plan: the partitions still to be read, and their end offsets."""

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
        """Return whether a partition has not reached its end offset."""
        return bool(self._open)

    def open_places(self) -> list[TopicPartition]:
        """Return the partitions that have not reached their end offset."""
        return sorted(self._open)

    def newly_closed(self) -> list[TopicPartition]:
        """Return the partitions that reached their end offset since the last call."""
        closed, self._closed = self._closed, []
        return closed

    def at_end(self, place: TopicPartition) -> None:
        """Mark a partition as finished, possibly before its end offset.

        Control records and open transactions occupy the remaining offsets.
        """
        if place in self._open:
            self._open.remove(place)
            self._closed.append(place)
            self._stops[self._index[place[0]], place[1]] = -1

    def take(self, records: RecordColumns) -> FetchedChunk:
        """Return the records before their partition's end offset as a chunk."""
        topic, partition, offset, timestamp = records.numbers()
        headers, payloads = records.headers, records.payloads
        unreadable = {at: HEADER_FAULT for at, found in headers.items() if is_unreadable(found)}
        faults = unreadable | _time_faults(timestamp)
        wanted = offset < self._stops[topic, partition]
        if not wanted.all():
            kept = np.flatnonzero(wanted)
            topic, partition, offset, timestamp = (
                column[kept] for column in (topic, partition, offset, timestamp)
            )
            payloads = payloads.take(pa.array(kept))
            places = {at: place for place, at in enumerate(kept.tolist())}
            headers = {places[at]: found for at, found in headers.items() if at in places}
            faults = {places[at]: fault for at, fault in faults.items() if at in places}
        self._note(topic, partition, offset)
        compressed = [at for at, found in headers.items() if at not in faults and _says_compressed(found)]
        return FetchedChunk(self.topics, topic, partition, offset, timestamp, payloads, compressed, faults)

    def _note(self, topic: Ints, partition: Ints, offset: Ints) -> None:
        reached = np.full_like(self._stops, -2)
        # Offsets of a partition rise, and of equal indexes the last value stays.
        reached[topic, partition] = offset + 1
        for at, part in np.argwhere((self._stops >= 0) & (reached >= self._stops)).tolist():
            self.at_end((self.topics[at], part))


def _time_faults(timestamp: Ints) -> dict[int, str]:
    """Return the errors of record timestamps that are not in milliseconds, by index."""
    wrong = (timestamp < NO_TIMESTAMP) | (timestamp > LATEST_MS)
    return {
        int(at): f"record timestamp {timestamp[at]} is not in milliseconds since 1970"
        for at in np.flatnonzero(wrong)
    }


def _says_compressed(headers: Any) -> bool:
    return is_compressed(list(headers.items()) if isinstance(headers, dict) else headers)


@dataclass(frozen=True)
class TopicSelection:
    """The topics of one table.

    Attributes:
        landed: topics that land in the table, sorted.
        ignored: topics with the prefix of the general topic but of no known exchange.
    """

    landed: tuple[str, ...]
    ignored: tuple[str, ...]


def select_topics(topic: str, existing: Iterable[str], exchanges: Iterable[str]) -> TopicSelection:
    """Select the general topic and `{topic}-{exchange}` of each known exchange, as far as they exist.

    Any other topic with the prefix, such as the target of a replay, holds copies of messages
    that the table already has.
    """
    wanted = {topic, *(f"{topic}-{exchange}" for exchange in exchanges)}
    present = {name for name in existing if not name.endswith(DEAD_LETTER_SUFFIX)}
    landed = wanted & present
    similar = {name for name in present if name.startswith(topic + "-")}
    return TopicSelection(tuple(sorted(landed)), tuple(sorted(similar - landed)))


def known_exchanges(settings: LakeSettings) -> frozenset[str]:
    """Return the exchanges whose topics land.

    These are the exchanges of feeds, of parsers and of ccxt, and those named in
    `COINSTREAM_EXCHANGE_TOPICS` and `COINSTREAM_LAKE_EXCHANGES`.

    Raises:
        SettingsError: `feeds.yaml` cannot be read.
    """
    # Imported here: reading the feeds takes time that `coinstream --help` does not have.
    from coinstream.feeds.registry import exchange_names

    return exchange_names() | frozenset(settings.exchanges)
