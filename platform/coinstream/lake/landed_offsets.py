"""How far topics have been landed: the offsets that a table's snapshots carry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import msgspec

from coinstream.errors import LakeError

if TYPE_CHECKING:
    from pyiceberg.table import Table

OFFSETS: Final = "coinstream.offsets"
"""Snapshot property: the next offset of every topic and partition, and the identity of the topics."""
RUN: Final = "coinstream.run"
"""Snapshot property: the id of the run that wrote it."""
CHECKS: Final = "coinstream.checks"
"""Snapshot property: what each expectation found, `{name: [checked, failed]}`."""


class TopicOffsets(msgspec.Struct, frozen=True):
    """The next offset to land per partition. `topic_id` tells a topic from one recreated under its name."""

    next: dict[int, int]
    topic_id: str | None = None


@dataclass(frozen=True)
class LandedOffsets:
    """Next offsets to land, by topic."""

    topics: Mapping[str, TopicOffsets] = field(default_factory=dict)

    @property
    def ids(self) -> dict[str, str | None]:
        """Return the identity of each topic, where the broker tells it."""
        return {topic: offsets.topic_id for topic, offsets in self.topics.items()}

    def next(self, topic: str, partition: int, topic_id: str | None = None) -> int:
        """The next offset of a partition; 0 when it was never landed, or the topic is another one now."""
        known = self.topics.get(topic)
        if known is None or is_another(known.topic_id, topic_id):
            return 0
        return known.next.get(partition, 0)

    def advanced(self, reached: LandedOffsets) -> LandedOffsets:
        """These positions, moved on to where `reached` is further; back only in a recreated topic."""
        merged = dict(self.topics)
        for topic, position in reached.topics.items():
            known = merged.get(topic)
            if known is None or is_another(known.topic_id, position.topic_id):
                merged[topic] = position
                continue
            nexts = dict(known.next)
            for partition, offset in position.next.items():
                nexts[partition] = max(offset, nexts.get(partition, 0))
            merged[topic] = TopicOffsets(nexts, position.topic_id or known.topic_id)
        return LandedOffsets(merged)

    def to_text(self) -> str:
        """As a snapshot carries it."""
        return msgspec.json.encode(self.topics).decode()

    @classmethod
    def from_text(cls, text: str) -> LandedOffsets:
        """As read from a snapshot.

        Raises:
            LakeError: the text is none of ours.
        """
        try:
            return cls(msgspec.json.decode(text, type=dict[str, TopicOffsets]))
        except msgspec.DecodeError as error:
            raise LakeError(f"a snapshot's {OFFSETS} cannot be read: {error}") from None


def is_another(known: str | None, current: str | None) -> bool:
    """Whether two topic identities differ. An unknown one is taken to be the same."""
    return known is not None and current is not None and known != current


def read_landed_offsets(table: Table) -> LandedOffsets:
    """How far topics are landed in the table: what the newest snapshot that knows says.

    Snapshots of other writers do not carry offsets, so their ancestors are asked.

    Raises:
        LakeError: the table has rows, but no snapshot says from where.
    """
    snapshot = table.current_snapshot()
    if snapshot is None:
        return LandedOffsets()
    while snapshot is not None:
        text = snapshot.summary.additional_properties.get(OFFSETS) if snapshot.summary else None
        if text is not None:
            return LandedOffsets.from_text(text)
        parent = snapshot.parent_snapshot_id
        snapshot = table.snapshot_by_id(parent) if parent is not None else None
    raise LakeError(
        f"table {'.'.join(table.name())} has snapshots, but none says which offsets were landed: "
        "another program wrote it and the snapshots before have expired. Roll it back to a snapshot "
        "of coinstream's, or drop it."
    )
