"""Packaged instrument lists, and joined names that no list has."""

from __future__ import annotations

import gzip
from datetime import UTC, datetime

import pytest

from coinstream.errors import FeedError
from coinstream.feeds.instrument_lists import decode, encode, exchanges_with_lists, packaged, split_uniquely
from coinstream.feeds.instruments import Instrument, InstrumentList, derivative, spot

EXPIRY = datetime(2021, 9, 24, 8, tzinfo=UTC)
INSTRUMENTS = [
    spot("ADAEUR", "ADA", "EUR"),
    spot("XBTUSD", "XBT", "USD"),
    derivative("BTCUSD_PERP", "BTC", "USD", "BTC", contract_size=100, inverse=True),
    derivative("XBTEURU21", "XBT", "EUR", "XBT", expiry=EXPIRY, price_currency="EUR"),
    derivative("BTC-24SEP21-0.5-C", "BTC", "USD", "BTC", expiry=EXPIRY, strike="0.5", option="C"),
    Instrument("odd", "A-B/USD", "AB", "USDT", "other", "X"),
]


def test_a_list_is_read_as_it_was_written() -> None:
    by_id = {instrument.id: instrument for instrument in decode(encode(INSTRUMENTS))}
    assert by_id == {instrument.id: instrument for instrument in INSTRUMENTS}


def test_the_same_instruments_make_the_same_file() -> None:
    assert encode(INSTRUMENTS) == encode(list(reversed(INSTRUMENTS)))


@pytest.mark.parametrize(
    "data", [b"x", gzip.compress(b"[1]", mtime=0), encode(INSTRUMENTS)[:-9]], ids=["text", "other", "cut off"]
)
def test_a_damaged_file_is_an_error(data: bytes) -> None:
    with pytest.raises(FeedError):
        decode(data)


@pytest.mark.parametrize("exchange", exchanges_with_lists())
def test_a_packaged_list_holds_whole_instruments(exchange: str) -> None:
    instruments = packaged(exchange)
    assert len(instruments)
    for instrument in instruments:
        assert instrument.symbol.startswith(f"{instrument.base}/{instrument.quote}")
        assert instrument.contract_size > 0
        assert (instrument.kind == "spot") == (not instrument.settle)


def test_a_list_that_does_not_ship_is_empty() -> None:
    assert len(packaged("no-such-exchange")) == 0


@pytest.mark.parametrize(
    ("joined", "parts"),
    [
        ("LTCUSDT", ("LTC", "USDT")),
        ("ltcusdt", ("LTC", "USDT")),
        ("ARBUSD", None),  # ARB/USD or AR/BUSD
        ("PAXGUSD", None),  # PAXG/USD or PAX/GUSD
        ("BTCZZUSDT", None),  # no such currency
        ("USDT", None),
        ("", None),
    ],
)
def test_a_joined_name_is_split_only_where_one_split_is_possible(
    joined: str, parts: tuple[str, str] | None
) -> None:
    assert split_uniquely(joined, InstrumentList()) == parts
