"""Read market data from recordings, exchanges and the simulated exchange.

A feed yields small batches of messages, and `run_feed` publishes them. Each frame that a feed receives
either produces messages or is counted with a reason. Frames that should have produced a message but could
not be read go to the dead-letter topic.
"""

from coinstream.feeds.feed_stats import FaultyFrame, Feed, FeedStats, Reason
from coinstream.feeds.lease import FeedLease, LeaseError
from coinstream.feeds.replay import ReplayFeed
from coinstream.feeds.runner import FeedReport, run_feed

__all__ = [
    "FaultyFrame",
    "Feed",
    "FeedLease",
    "FeedReport",
    "FeedStats",
    "LeaseError",
    "Reason",
    "ReplayFeed",
    "run_feed",
]
