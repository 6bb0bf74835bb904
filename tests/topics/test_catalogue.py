"""Test the specs of the catalogue."""

from __future__ import annotations

import pytest

from coinstream.errors import TopicError
from coinstream.topics.catalogue import (
    ANALYTICS,
    BOOK,
    CORE_TOPICS,
    DERIVATIVES,
    LEVEL1,
    LIQUIDATIONS,
    OHLCV,
    PRICES,
    TRADES,
    TopicSpec,
    catalogue,
    exchange_topic,
    fit_to_cluster,
)


@pytest.mark.parametrize(
    ("spec", "figures"),
    [
        (PRICES, ("crypto-prices", 24, 604_800_000, 1_073_741_824, 86_400_000, 104_857_600)),
        (OHLCV, ("crypto-ohlcv", 12, 2_592_000_000, 2_147_483_648, 86_400_000, 209_715_200)),
        (ANALYTICS, ("crypto-analytics", 6, 7_776_000_000, 1_073_741_824, 172_800_000, 314_572_800)),
        (LEVEL1, ("crypto-level1", 48, 86_400_000, 536_870_912, 3_600_000, 52_428_800)),
        (TRADES, ("crypto-trades", 48, 604_800_000, 1_073_741_824, 86_400_000, 104_857_600)),
        (BOOK, ("crypto-book", 48, 86_400_000, 536_870_912, 3_600_000, 52_428_800)),
        (DERIVATIVES, ("crypto-derivatives", 12, 2_592_000_000, 1_073_741_824, 86_400_000, 209_715_200)),
        (LIQUIDATIONS, ("crypto-liquidations", 6, 7_776_000_000, 1_073_741_824, 172_800_000, 314_572_800)),
    ],
)
def test_core_topics(spec: TopicSpec, figures: tuple[object, ...]) -> None:
    assert figures == (
        spec.name,
        spec.partitions,
        spec.retention_ms,
        spec.retention_bytes,
        spec.segment_ms,
        spec.segment_bytes,
    )
    assert (spec.replication_factor, spec.min_insync_replicas) == (3, 2)
    assert spec.config()["compression.type"] == "lz4"
    assert spec.config()["cleanup.policy"] == "delete"


def test_only_prices_sets_the_index_interval_and_unclean_election() -> None:
    extra = {"index.interval.bytes", "unclean.leader.election.enable"}
    assert {spec.name for spec in CORE_TOPICS if extra & spec.config().keys()} == {"crypto-prices"}
    assert PRICES.config()["index.interval.bytes"] == "4096"
    assert PRICES.config()["unclean.leader.election.enable"] == "false"


@pytest.mark.parametrize("spec", CORE_TOPICS)
def test_exchange_topics(spec: TopicSpec) -> None:
    own = exchange_topic(spec, "binance")
    assert own.name == f"{spec.name}-binance"
    assert own.partitions == spec.partitions // 2
    assert own.retention_ms == spec.retention_ms * 3 // 2
    same = {"name", "partitions", "retention_ms"}
    assert own.model_dump(exclude=same) == spec.model_dump(exclude=same)


def test_an_exchange_name_that_makes_no_topic_is_refused() -> None:
    with pytest.raises(ValueError, match="not a valid topic name"):
        exchange_topic(PRICES, "bi nance/../x")


@pytest.mark.parametrize(("brokers", "factor", "in_sync"), [(1, 1, 1), (2, 1, 1), (3, 3, 2), (7, 3, 2)])
def test_fitting_to_a_cluster(brokers: int, factor: int, in_sync: int) -> None:
    fitted, warning = fit_to_cluster(PRICES, brokers)
    assert (fitted.replication_factor, fitted.min_insync_replicas) == (factor, in_sync)
    assert (warning is not None) is (brokers < 3)


def test_no_broker_is_an_error() -> None:
    with pytest.raises(TopicError, match="reports no broker"):
        fit_to_cluster(PRICES, 0)


def test_the_catalogue_holds_every_topic_once() -> None:
    names = [spec.name for spec in catalogue(["binance", "kraken"])]
    assert len(names) == len(set(names)) == 24 * 2 + 2
