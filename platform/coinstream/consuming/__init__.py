"""Reading: consumer groups that handle partitions concurrently, each in order, and lose nothing."""

from coinstream.consuming.group import ConsumerGroupManager, GroupReport
from coinstream.consuming.options import GroupOptions, StuckPartition
from coinstream.consuming.received import Received

__all__ = ["ConsumerGroupManager", "GroupOptions", "GroupReport", "Received", "StuckPartition"]
