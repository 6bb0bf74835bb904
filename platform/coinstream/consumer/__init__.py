"""Consume messages in groups: partitions concurrently, in order within each, at least once."""

from coinstream.consumer.consumed_message import ConsumedMessage
from coinstream.consumer.group import ConsumerGroupManager, GroupReport
from coinstream.consumer.options import GroupOptions, StuckPartition
from coinstream.consumer.start_offsets import OffsetGap

__all__ = [
    "ConsumedMessage",
    "ConsumerGroupManager",
    "GroupOptions",
    "GroupReport",
    "OffsetGap",
    "StuckPartition",
]
