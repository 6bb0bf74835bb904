"""Reading: consumer groups that handle partitions concurrently, each in order, and lose nothing."""

from coinstream.consumer.group import ConsumerGroupManager, GroupReport
from coinstream.consumer.options import GroupOptions, StuckPartition
from coinstream.consumer.received import Received

__all__ = ["ConsumerGroupManager", "GroupOptions", "GroupReport", "Received", "StuckPartition"]
