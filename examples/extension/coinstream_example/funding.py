"""A message type of its own: the funding rate of a perpetual contract, with its topic and an expectation."""

from coinstream.expectations.rules import Rule, register_rule
from coinstream.messages import Message, MessageType, Moment, Text, register
from coinstream.topics.catalogue import TopicSpec, register_topic

_DAY_MS = 86_400_000


class FundingRate(Message, forbid_unknown_fields=True, frozen=True):
    """Funding rate that longs pay shorts at the next funding time, as a fraction of the position."""

    exchange_id: Text
    symbol: Text
    funding_rate: float
    next_funding_time: Moment
    last_updated: Moment


TOPIC = register_topic(
    TopicSpec(
        name="crypto-funding",
        partitions=6,
        retention_ms=30 * _DAY_MS,
        retention_bytes=268_435_456,
        segment_ms=_DAY_MS,
        segment_bytes=67_108_864,
    )
)
FUNDING = register(MessageType("funding", FundingRate, discriminator="fundingRate", topic=TOPIC.name))
register_rule(
    FUNDING.name,
    Rule(
        "plausible_rate",
        "a funding rate is at most 4 per cent, either way",
        "ExpectColumnValuesToBeBetween",
        {"column": "funding_rate", "min_value": -0.04, "max_value": 0.04},
        columns=("funding_rate",),
        severity="error",
        refuses_rows=True,
    ),
)
