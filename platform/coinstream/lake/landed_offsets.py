"""Read and write landed offsets in the snapshots of a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import msgspec

from coinstream.errors import LakeError

if TYPE_CHECKING:
    from pyiceberg.table import Table

OFFSETS: Final = "coinstream.offsets"
"""Snapshot property with the next offset of every topic and partition, and the topic ids."""
RUN: Final = "coinstream.run"
"""Snapshot property with the id of the landing."""
CHECKS: Final = "coinstream.checks"
"""Snapshot property with the result of each expectation, `{name: [checked, failed]}`."""


class TopicOffsets(msgspec.Struct, frozen=True):
    """Next offset to land per partition. `topic_id` distinguishes a topic from a recreated one."""

    next: dict[int, int]
    topic_id: str | None = None


@dataclass(frozen=True)
class LandedOffsets:
    """Next offsets to land by topic."""

    topics: Mapping[str, TopicOffsets] = field(default_factory=dict)

    @property
    def ids(self) -> dict[str, str | None]:
        """Return the id of each topic, if the broker has topic ids."""
        return {topic: offsets.topic_id for topic, offsets in self.topics.items()}

    def next(self, topic: str, partition: int, topic_id: str | None = None) -> int:
        """Return the next offset of a partition; 0 if it was never landed or the topic was recreated."""
        known = self.topics.get(topic)
        if known is None or is_another(known.topic_id, topic_id):
            return 0
        return known.next.get(partition, 0)

    def advanced(self, reached: LandedOffsets) -> LandedOffsets:
        """Return the offsets advanced to `reached`; they move back only for a recreated topic."""
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
        """Encode the offsets for a snapshot property."""
        return msgspec.json.encode(self.topics).decode()

    @classmethod
    def from_text(cls, text: str) -> LandedOffsets:
        """Decode the offsets from a snapshot property.

        Raises:
            LakeError: the text is invalid.
        """
        try:
            return cls(msgspec.json.decode(text, type=dict[str, TopicOffsets]))
        except msgspec.DecodeError as error:
            raise LakeError(f"a snapshot's {OFFSETS} cannot be read: {error}") from None


def is_another(known: str | None, current: str | None) -> bool:
    """Return whether two topic ids differ. An unknown id counts as equal."""
    return known is not None and current is not None and known != current


def read_landed_offsets(table: Table) -> LandedOffsets:
    """Return the landed offsets of the newest snapshot that has them.

    Snapshots of other writers have no offsets, so their ancestors are read.

    Raises:
        LakeError: the table has rows, but no snapshot has offsets.
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
