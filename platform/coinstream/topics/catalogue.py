"""Define the specs of the platform's topics."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from coinstream.errors import TopicError
from coinstream.text import did_you_mean

DEAD_LETTER_SUFFIX: Final = ".dlq"
HEALTH_TOPIC: Final = "health-check"

_DAY_MS: Final = 86_400_000
_MIB: Final = 1_048_576
_LEGAL_NAME: Final = re.compile(r"[a-zA-Z0-9._-]{1,249}\Z")


class TopicSpec(BaseModel):
    """Desired topic. Sizes are in bytes, times in milliseconds, `retention_bytes` is per partition."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    partitions: Annotated[int, Field(ge=1)]
    replication_factor: Annotated[int, Field(ge=1)] = 3
    retention_ms: int
    retention_bytes: int
    min_insync_replicas: Annotated[int, Field(ge=1)] = 2
    segment_ms: int
    segment_bytes: int
    compression_type: str = "lz4"
    cleanup_policy: str = "delete"
    index_interval_bytes: int | None = None
    unclean_leader_election: bool | None = None
    max_message_bytes: int | None = None

    @field_validator("name")
    @classmethod
    def _legal(cls, name: str) -> str:
        if not _LEGAL_NAME.match(name) or name in {".", ".."}:
            raise ValueError(f"{name!r} is not a valid topic name: use letters, digits, '.', '_' and '-'")
        return name

    def config(self) -> dict[str, str]:
        """Return the topic's settings under their Kafka names."""
        wanted = {
            "cleanup.policy": self.cleanup_policy,
            "compression.type": self.compression_type,
            "retention.ms": self.retention_ms,
            "retention.bytes": self.retention_bytes,
            "min.insync.replicas": self.min_insync_replicas,
            "segment.ms": self.segment_ms,
            "segment.bytes": self.segment_bytes,
            "index.interval.bytes": self.index_interval_bytes,
            "unclean.leader.election.enable": self.unclean_leader_election,
            "max.message.bytes": self.max_message_bytes,
        }
        return {name: _text(value) for name, value in wanted.items() if value is not None}


PRICES: Final = TopicSpec(
    name="crypto-prices",
    partitions=24,
    retention_ms=7 * _DAY_MS,
    retention_bytes=1024 * _MIB,
    segment_ms=_DAY_MS,
    segment_bytes=100 * _MIB,
    index_interval_bytes=4096,
    unclean_leader_election=False,
)
OHLCV: Final = TopicSpec(
    name="crypto-ohlcv",
    partitions=12,
    retention_ms=30 * _DAY_MS,
    retention_bytes=2048 * _MIB,
    segment_ms=_DAY_MS,
    segment_bytes=200 * _MIB,
)
ANALYTICS: Final = TopicSpec(
    name="crypto-analytics",
    partitions=6,
    retention_ms=90 * _DAY_MS,
    retention_bytes=1024 * _MIB,
    segment_ms=2 * _DAY_MS,
    segment_bytes=300 * _MIB,
)
LEVEL1: Final = TopicSpec(
    name="crypto-level1",
    partitions=48,
    retention_ms=_DAY_MS,
    retention_bytes=512 * _MIB,
    segment_ms=_DAY_MS // 24,
    segment_bytes=50 * _MIB,
)
TRADES: Final = TopicSpec(
    name="crypto-trades",
    partitions=48,
    retention_ms=7 * _DAY_MS,
    retention_bytes=1024 * _MIB,
    segment_ms=_DAY_MS,
    segment_bytes=100 * _MIB,
)
BOOK: Final = TopicSpec(
    name="crypto-book",
    partitions=48,
    retention_ms=_DAY_MS,
    retention_bytes=512 * _MIB,
    segment_ms=_DAY_MS // 24,
    segment_bytes=50 * _MIB,
)
DERIVATIVES: Final = TopicSpec(
    name="crypto-derivatives",
    partitions=12,
    retention_ms=30 * _DAY_MS,
    retention_bytes=1024 * _MIB,
    segment_ms=_DAY_MS,
    segment_bytes=200 * _MIB,
)
LIQUIDATIONS: Final = TopicSpec(
    name="crypto-liquidations",
    partitions=6,
    retention_ms=90 * _DAY_MS,
    retention_bytes=1024 * _MIB,
    segment_ms=2 * _DAY_MS,
    segment_bytes=300 * _MIB,
)
CORE_TOPICS: Final = (PRICES, OHLCV, ANALYTICS, LEVEL1, TRADES, BOOK, DERIVATIVES, LIQUIDATIONS)

_ADDED: Final[dict[str, TopicSpec]] = {}


def register_topic(spec: TopicSpec) -> TopicSpec:
    """Add the topic of another message type to the catalogue, with its exchange and dead-letter topics.

    Raises:
        ValueError: another spec has the name.
    """
    known = {topic.name: topic for topic in market_topics()}.get(spec.name)
    if known not in (None, spec):
        raise ValueError(f"topic {spec.name!r} is in the catalogue already, with other settings")
    if known is None:
        _ADDED[spec.name] = spec
    return spec


def market_topics() -> tuple[TopicSpec, ...]:
    """Return the topics of message types: built-in and registered ones."""
    return (*CORE_TOPICS, *_ADDED.values())


DEAD_LETTER_BYTES: Final = 4 * _MIB
"""Maximum record size of a dead-letter topic, larger than that of its topic because of the headers."""

HEALTH: Final = TopicSpec(
    name=HEALTH_TOPIC,
    partitions=1,
    retention_ms=_DAY_MS // 24,
    retention_bytes=16 * _MIB,
    segment_ms=_DAY_MS // 24,
    segment_bytes=_MIB,
)
"""Topic of the producer health probe."""


_PLAIN: Final = HEALTH.model_copy(update={"retention_ms": _DAY_MS, "retention_bytes": 1024 * _MIB})
"""Default settings of topics that are not in the catalogue."""

FEED_DEAD_LETTERS: Final = TopicSpec(
    name="crypto-feeds" + DEAD_LETTER_SUFFIX,
    partitions=6,
    retention_ms=30 * _DAY_MS,
    retention_bytes=256 * _MIB,
    segment_ms=_DAY_MS,
    segment_bytes=64 * _MIB,
    max_message_bytes=DEAD_LETTER_BYTES,
)
"""Dead-letter topic of exchange frames that could not be converted to messages."""


def exchange_topic(spec: TopicSpec, exchange: str) -> TopicSpec:
    """Return the topic of one exchange: half the partitions, 1.5 times the retention, else equal."""
    return spec.model_validate(
        spec.model_dump()
        | {
            "name": f"{spec.name}-{exchange}",
            "partitions": max(spec.partitions // 2, 1),
            "retention_ms": spec.retention_ms * 3 // 2,
        }
    )


def dead_letter_topic(spec: TopicSpec) -> TopicSpec:
    """Return the dead-letter topic of a topic, with a retention of at least 30 days."""
    return spec.model_validate(
        spec.model_dump()
        | {
            "name": spec.name + DEAD_LETTER_SUFFIX,
            "partitions": min(spec.partitions, 6),
            "retention_ms": max(spec.retention_ms, 30 * _DAY_MS),
            "max_message_bytes": DEAD_LETTER_BYTES,
        }
    )


def catalogue(exchanges: Iterable[str] = (), *, dead_letters: bool = True) -> list[TopicSpec]:
    """Return the platform's topics: general ones, those of the given exchanges, and supporting ones."""
    general = market_topics()
    market = [*general, *(exchange_topic(spec, exchange) for exchange in exchanges for spec in general)]
    dead = [dead_letter_topic(spec) for spec in market] if dead_letters else []
    dead += [FEED_DEAD_LETTERS] if dead_letters else []
    return [*market, *dead, HEALTH]


def topic_like(
    name: str, like: str | None = None, partitions: int | None = None, retention_hours: float | None = None
) -> TopicSpec:
    """Return the spec of a topic that is not in the catalogue.

    Args:
        name: name of the topic.
        like: topic of the catalogue whose settings are copied. None copies the topic whose name is a prefix
            of `name`, else the health topic with a retention of a day.
        partitions: number of partitions, if different.
        retention_hours: retention in hours, if different.

    Raises:
        TopicError: the catalogue has no topic `like`, or the name is invalid.
    """
    known = {spec.name: spec for spec in catalogue()}
    if like is not None and like not in known:
        raise TopicError(f"no topic {like!r} in the catalogue; {did_you_mean(like, known)}")
    begins = [spec for spec in market_topics() if name.startswith(f"{spec.name}-")]
    template = known[like] if like is not None else begins[0] if begins else _PLAIN
    changes: dict[str, object] = {"name": name}
    if partitions is not None:
        changes["partitions"] = partitions
    if retention_hours is not None:
        changes["retention_ms"] = int(retention_hours * 3_600_000)
    try:
        return TopicSpec.model_validate(template.model_dump() | changes)
    except ValidationError as error:
        raise TopicError(error.errors()[0]["msg"].removeprefix("Value error, ")) from None


def fit_to_cluster(spec: TopicSpec, brokers: int) -> tuple[TopicSpec, str | None]:
    """Adapt the replication of a spec to the number of brokers.

    The replication factor stays odd, as Redpanda requires. With three replicas `min.insync.replicas`
    tolerates the loss of one broker.

    Returns:
        The adapted spec, and a warning if its replication was lowered.

    Raises:
        TopicError: the cluster has no broker.
    """
    if brokers < 1:
        raise TopicError(f"cannot place topic {spec.name}: the cluster reports no broker")
    if brokers >= spec.replication_factor:
        return spec, None
    factor = brokers if brokers % 2 else brokers - 1
    in_sync = min(spec.min_insync_replicas, math.ceil(factor / 2))
    fitted = spec.model_copy(update={"replication_factor": factor, "min_insync_replicas": in_sync})
    return fitted, (
        f"{spec.name}: {brokers} broker(s) cannot hold replication factor {spec.replication_factor}; "
        f"lowered to {factor} with min.insync.replicas {in_sync}: a lost broker may lose data"
    )


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
