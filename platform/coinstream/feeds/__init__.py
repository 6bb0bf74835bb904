"""Feeds: market data from recordings, from exchanges and from the simulated exchange.

A feed yields small batches of messages; `run_feed` publishes them. Whatever a feed receives either
becomes messages or is counted with its reason, and what should have become a message but could
not is kept as a dead letter: nothing is dropped in silence.
"""

from coinstream.feeds.base import Feed
from coinstream.feeds.feed_stats import DeadLetter, FeedStats, Reason
from coinstream.feeds.lease import FeedLease, LeaseError
from coinstream.feeds.replay import ReplayFeed
from coinstream.feeds.runner import FeedReport, run_feed

__all__ = [
    "DeadLetter",
    "Feed",
    "FeedLease",
    "FeedReport",
    "FeedStats",
    "LeaseError",
    "Reason",
    "ReplayFeed",
    "run_feed",
]
