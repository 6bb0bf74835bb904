"""Latest quotes from topics, and candles and exchange figures from tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
import polars as pl

from coinstream.consumer.tail_reader import newest_records
from coinstream.errors import DecodeError
from coinstream.explore.topic_browser import existing_topics, topics_of_type
from coinstream.lake.query import query
from coinstream.lake.statistics import ExchangeStatistics
from coinstream.lake.store import Lake
from coinstream.messages import LEVEL1, Level1
from coinstream.serialization import MessageDeserializer
from coinstream.settings import BrokerSettings

_SAMPLE: Final = 12_000
_POINTS: Final = 500
"""Points of a chart, at most about twice as many."""
_SAMPLE_SCHEMA: Final[dict[str, Any]] = {
    "exchange": pl.String,
    "symbol": pl.String,
    "bid": pl.Float64,
    "ask": pl.Float64,
    "middle": pl.Float64,
    "spread_bp": pl.Float64,
    "time": pl.Datetime("us", "UTC"),
    "received": pl.Datetime("us", "UTC"),
}


def sample_quotes(brokers: BrokerSettings) -> pl.DataFrame:
    """Return the newest quotes of all quote topics, oldest first.

    Returns:
        `exchange`, `symbol`, `bid`, `ask`, `middle`, `spread_bp` (basis points of the middle), `time` (of the
        exchange), `received` (by the platform).

    Raises:
        TopicError: the topic does not exist.
        BrokerError: the cluster does not answer.
    """
    quotes = [
        msgspec.structs.asdict(message)
        for topic in topics_of_type(existing_topics(brokers), LEVEL1)
        for message in _quotes_of(brokers, topic)
    ]
    if not quotes:
        return pl.DataFrame(schema=_SAMPLE_SCHEMA)
    bid, ask = pl.col("best_bid"), pl.col("best_ask")
    middle = (bid + ask) / 2
    return (
        pl.DataFrame(quotes)
        .select(
            pl.col("exchange_id").alias("exchange"),
            "symbol",
            bid.alias("bid"),
            ask.alias("ask"),
            middle.alias("middle"),
            ((ask - bid) / middle * 10_000).alias("spread_bp"),
            pl.col("timestamp").alias("time"),
            pl.col("last_updated").alias("received"),
        )
        .sort("received")
    )


def latest_quotes(brokers: BrokerSettings) -> pl.DataFrame:
    """Return the newest quote of each exchange and symbol; see `latest_of`.

    Raises:
        TopicError: the topic does not exist.
        BrokerError: the cluster does not answer.
    """
    return latest_of(sample_quotes(brokers))


def latest_of(quotes: pl.DataFrame, now: datetime | None = None) -> pl.DataFrame:
    """Return the newest quote of each exchange and symbol of a sample.

    Returns:
        `exchange`, `symbol`, `bid`, `ask`, `spread_bp` (basis points of the middle), `age_s` (seconds since
        the quote was received) and `quotes` (number of sampled quotes), most quoted first.
    """
    moment = now or datetime.now(UTC)
    age = (pl.lit(moment) - pl.col("received").last()).dt.total_milliseconds() / 1000
    return (
        quotes.group_by("exchange", "symbol")
        .agg(
            pl.col("bid").last(),
            pl.col("ask").last(),
            pl.col("spread_bp").last().round_sig_figs(4),
            age.round(1).alias("age_s"),
            pl.len().cast(pl.UInt32).alias("quotes"),
        )
        .sort("quotes", "exchange", "symbol", descending=[True, False, False])
    )


def most_quoted(quotes: pl.DataFrame, markets: int = 6, seconds: float = 120.0) -> pl.DataFrame:
    """Return the newest quotes of the most quoted markets of a sample, for charts.

    Args:
        quotes: see `sample_quotes`. Crossed quotes, whose bid is above the ask, are left out.
        markets: number of markets.
        seconds: how far to look back from the newest quote, at most to the oldest sampled quote of the
            busiest market. Before that, the sample contains slow markets only.

    Returns:
        The columns of the sample and `market`; of many quotes, every n-th.
    """
    recent = quotes.filter(
        pl.col("bid") <= pl.col("ask"),
        pl.col("received") >= pl.col("received").max() - pl.duration(milliseconds=int(seconds * 1000)),
    )
    named = recent.with_columns(pl.concat_str("exchange", "symbol", separator=" ").alias("market"))
    chosen = named.group_by("market").len().sort("len", "market", descending=[True, False])["market"]
    start = named.filter(pl.col("market") == chosen.head(1)).select(pl.col("received").min())
    shown = named.filter(
        pl.col("market").is_in(chosen.head(markets).to_list()), pl.col("received") >= start.to_series()
    )
    count = pl.len().over("market")
    return shown.filter(pl.int_range(pl.len()).over("market") % (count // _POINTS + 1) == 0)


def staleness(quotes: pl.DataFrame, now: datetime | None = None) -> pl.DataFrame:
    """Return `exchange` and `stale_s`: seconds since the newest quote of the exchange was received."""
    age = pl.lit(now or datetime.now(UTC)) - pl.col("received").max()
    return quotes.group_by("exchange").agg((age.dt.total_milliseconds() / 1000).round(1).alias("stale_s"))


def _quotes_of(brokers: BrokerSettings, topic: str) -> Iterator[Level1]:
    decoder = MessageDeserializer()
    for record in newest_records(brokers, topic, _SAMPLE):
        try:
            message = decoder.decode(record.value, record.headers, topic).message
        except DecodeError:
            continue  # the message browser shows such records with their error
        if isinstance(message, Level1):
            yield message


def candles(
    lake: Lake, symbol: str, exchange: str, *, hours: float = 24.0, timeframe: str = "1m"
) -> pl.DataFrame:
    """Return the candles of a market over its newest hours, oldest first; the open one is among them.

    Returns:
        `time`, `open`, `high`, `low`, `close`, `volume`; empty before the first candles are built.

    Raises:
        LakeError: the tables cannot be read.
    """
    schema = {"time": pl.Datetime("us", "UTC")} | dict.fromkeys(
        ("open", "high", "low", "close", "volume"), pl.Float64
    )
    source = _candle_source(lake)
    if source is None:
        return pl.DataFrame(schema=schema)
    found = query(
        lake,
        f"""
        WITH chosen AS (
            SELECT * FROM ({source})
            WHERE symbol = $symbol AND exchange_id = $exchange AND timeframe = $timeframe
        )
        SELECT open_time, open_price::DOUBLE, high_price::DOUBLE, low_price::DOUBLE, close_price::DOUBLE,
            volume::DOUBLE
        FROM chosen
        WHERE open_time >= (SELECT max(open_time) FROM chosen) - to_seconds($seconds)
        QUALIFY row_number() OVER (PARTITION BY open_time ORDER BY built DESC, landed DESC) = 1
        ORDER BY open_time
        """,  # noqa: S608
        {"symbol": symbol, "exchange": exchange, "timeframe": timeframe, "seconds": hours * 3600},
        limit=100_000,
    )
    return pl.DataFrame(found.rows, schema=schema, orient="row")


def _candle_source(lake: Lake) -> str | None:
    """Return a statement that yields landed candles and those that were built; None where there are none."""
    fields = (
        "exchange_id, symbol, timeframe, open_time, open_price, high_price, low_price, close_price, volume"
    )
    landed = f"SELECT {fields}, false AS built, last_updated AS landed FROM ohlcv"  # noqa: S608
    built = f"SELECT {fields}, true AS built, last_updated AS landed FROM candles"  # noqa: S608
    names = lake.names()
    parts = [text for name, text in (("ohlcv", landed), ("candles", built)) if name in names]
    return " UNION ALL ".join(parts) or None


def rounded(statistics: Sequence[ExchangeStatistics]) -> pl.DataFrame:
    """Return statistics of exchanges as a frame, with figures of four significant digits."""
    return pl.DataFrame([asdict(one) for one in statistics]).with_columns(
        pl.selectors.float().round_sig_figs(4)
    )


def candle_markets(lake: Lake) -> pl.DataFrame:
    """Return `exchange`, `symbol` and `candles` of every market that has candles, most traded first.

    Raises:
        LakeError: the tables cannot be read.
    """
    schema = {"exchange": pl.String, "symbol": pl.String, "candles": pl.Int64}
    source = _candle_source(lake)
    if source is None:
        return pl.DataFrame(schema=schema)
    counted = f"""
        SELECT exchange_id, symbol, count(DISTINCT (timeframe, open_time)) FROM ({source})
        GROUP BY ALL ORDER BY max(volume::DOUBLE * close_price::DOUBLE) DESC, 3 DESC, 1, 2
        """  # noqa: S608
    found = query(lake, counted, limit=10_000)
    return pl.DataFrame(found.rows, schema=schema, orient="row")
