"""Reading: consumer groups that handle partitions concurrently, each in order, and lose nothing."""

from coinstream.consumer.consumed_message import ConsumedMessage
from coinstream.consumer.group import ConsumerGroupManager, GroupReport
from coinstream.consumer.options import GroupOptions, StuckPartition

__all__ = ["ConsumedMessage", "ConsumerGroupManager", "GroupOptions", "GroupReport", "StuckPartition"]
