"""Latest quotes from topics, and candles and exchange figures from tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Final

import msgspec
import polars as pl

from coinstream.consumer.tail_reader import newest_records
from coinstream.errors import DecodeError
from coinstream.explore.topic_browser import market_topics, topic_names
from coinstream.lake.query import query
from coinstream.lake.statistics import ExchangeStatistics
from coinstream.lake.store import Lake
from coinstream.messages import LEVEL1, Level1
from coinstream.serialization import Decoder
from coinstream.settings import BrokerSettings

_SAMPLE: Final = 4_000
_LATEST_SCHEMA: Final = {
    "exchange": pl.String,
    "symbol": pl.String,
    "bid": pl.Float64,
    "ask": pl.Float64,
    "spread_bp": pl.Float64,
    "age_s": pl.Float64,
    "quotes": pl.UInt32,
}


def latest_quotes(brokers: BrokerSettings) -> pl.DataFrame:
    """Return the newest quote of each exchange and symbol among the newest records of all quote topics.

    Returns:
        `exchange`, `symbol`, `bid`, `ask`, `spread_bp` (basis points of the middle), `age_s` (seconds behind
        the newest quote) and `quotes` (how many were sampled).

    Raises:
        TopicError: the topic does not exist.
        BrokerError: the cluster does not answer.
    """
    quotes = [
        msgspec.structs.asdict(message)
        for topic in market_topics(topic_names(brokers), LEVEL1)
        for message in _quotes_of(brokers, topic)
    ]
    if not quotes:
        return pl.DataFrame(schema=_LATEST_SCHEMA)
    frame = pl.DataFrame(quotes).sort("last_updated")
    newest = frame["last_updated"].max()
    middle = (pl.col("best_bid") + pl.col("best_ask")) / 2
    return (
        frame.group_by("exchange_id", "symbol")
        .agg(
            pl.col("best_bid").last().alias("bid"),
            pl.col("best_ask").last().alias("ask"),
            ((pl.col("best_ask") - pl.col("best_bid")) / middle * 10_000).last().alias("spread_bp"),
            ((pl.lit(newest) - pl.col("last_updated").last()).dt.total_milliseconds() / 1000).alias("age_s"),
            pl.len().cast(pl.UInt32).alias("quotes"),
        )
        .rename({"exchange_id": "exchange"})
        .sort("quotes", "exchange", "symbol", descending=[True, False, False])
    )


def _quotes_of(brokers: BrokerSettings, topic: str) -> Iterator[Level1]:
    decoder = Decoder()
    for record in newest_records(brokers, topic, _SAMPLE):
        try:
            message = decoder.decode(record.value, record.headers, topic).message
        except DecodeError:
            continue  # the message browser shows such records with their error
        if isinstance(message, Level1):
            yield message


def candles(lake: Lake, symbol: str, exchange: str, *, hours: float = 24.0) -> pl.DataFrame:
    """Return the one-minute candles of a market over its newest hours, oldest first.

    Returns:
        `time`, `open`, `high`, `low`, `close`, `volume`; empty before the first candles are built.

    Raises:
        LakeError: the tables cannot be read.
    """
    schema = {"time": pl.Datetime("us", "UTC")} | dict.fromkeys(
        ("open", "high", "low", "close", "volume"), pl.Float64
    )
    if "ohlcv" not in lake.names():
        return pl.DataFrame(schema=schema)
    found = query(
        lake,
        """
        WITH chosen AS (
            SELECT * FROM ohlcv
            WHERE symbol = $symbol AND exchange_id = $exchange AND timeframe = '1m'
        )
        SELECT open_time, open_price::DOUBLE, high_price::DOUBLE, low_price::DOUBLE, close_price::DOUBLE,
            volume::DOUBLE
        FROM chosen
        WHERE open_time >= (SELECT max(open_time) FROM chosen) - to_seconds($seconds)
        QUALIFY row_number() OVER (PARTITION BY open_time ORDER BY last_updated DESC) = 1
        ORDER BY open_time
        """,
        {"symbol": symbol, "exchange": exchange, "seconds": hours * 3600},
        limit=100_000,
    )
    return pl.DataFrame(found.rows, schema=schema, orient="row")


def rounded(statistics: Sequence[ExchangeStatistics]) -> pl.DataFrame:
    """Return statistics of exchanges as a frame, with figures of four significant digits."""
    return pl.DataFrame([asdict(one) for one in statistics]).with_columns(
        pl.selectors.float().round_sig_figs(4)
    )


def candle_markets(lake: Lake) -> pl.DataFrame:
    """Return `exchange`, `symbol` and `candles` of every market that has candles, most first.

    Raises:
        LakeError: the tables cannot be read.
    """
    schema = {"exchange": pl.String, "symbol": pl.String, "candles": pl.Int64}
    if "ohlcv" not in lake.names():
        return pl.DataFrame(schema=schema)
    counted = "SELECT exchange_id, symbol, count(*) FROM ohlcv GROUP BY ALL ORDER BY 3 DESC, 1, 2"
    found = query(lake, counted, limit=10_000)
    return pl.DataFrame(found.rows, schema=schema, orient="row")
