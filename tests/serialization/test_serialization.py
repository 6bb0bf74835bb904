"""Test the wire format: rounding, times, compression, refused values and decoding."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta, timezone
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Any

import lz4.frame
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coinstream.errors import DecodeError, MessageError, UnroutableError
from coinstream.messages import (
    MESSAGE_TYPES,
    Analytics,
    Book,
    DerivativeTicker,
    Level1,
    Liquidation,
    Message,
    Ohlcv,
    Price,
    Trade,
    classify,
    level_fields,
    price_fields,
)
from coinstream.serialization import COMPRESS_ABOVE, MessageDeserializer, MessageSerializer
from coinstream.serialization.precision import PriceRounder, round_price

AT = datetime(2024, 8, 8, 23, 54, 13, 937_000, tzinfo=UTC)
EXACT = Context(prec=400, rounding=ROUND_HALF_EVEN)

texts = st.text(min_size=1, max_size=20)
prices = st.floats(min_value=0, max_value=1e15, allow_nan=False)
amounts = st.floats(min_value=0, allow_nan=False, allow_infinity=False)
levels = st.lists(st.tuples(prices, amounts), max_size=30)
moments = st.datetimes(min_value=datetime(1970, 1, 1), timezones=st.just(UTC)).map(
    lambda moment: moment.replace(microsecond=moment.microsecond // 1000 * 1000)
)
any_message: st.SearchStrategy[Message] = st.one_of(
    st.builds(
        Price,
        texts,
        texts,
        prices,
        moments,
        st.none() | amounts,
        st.none() | st.floats(allow_nan=False, allow_infinity=False),
        st.none() | amounts,
    ),
    st.builds(Ohlcv, texts, texts, texts, moments, moments, prices, prices, prices, prices, amounts, moments),
    st.builds(
        Analytics,
        texts,
        amounts,
        amounts,
        amounts,
        moments,
        st.none() | amounts,
        st.none() | st.integers(min_value=0, max_value=2**53),
    ),
    st.builds(Level1, texts, texts, prices, prices, amounts, amounts, moments, moments),
    st.builds(
        Trade,
        exchange_id=texts,
        symbol=texts,
        trade_id=st.none() | texts,
        trade_price=prices,
        size=amounts,
        side=st.none() | st.sampled_from(["buy", "sell"]),
        timestamp=moments,
        last_updated=moments,
    ),
    st.builds(
        Book,
        exchange_id=texts,
        symbol=texts,
        bids=levels,
        asks=levels,
        depth=st.integers(min_value=1, max_value=1000),
        sequence=st.none() | st.integers(min_value=0, max_value=2**63 - 1),
        timestamp=moments,
        last_updated=moments,
    ),
    st.builds(
        DerivativeTicker,
        exchange_id=texts,
        symbol=texts,
        mark_price=prices,
        index_price=st.none() | prices,
        last_price=st.none() | prices,
        funding_rate=st.none() | st.floats(-1, 1),
        next_funding_time=st.none() | moments,
        open_interest=st.none() | amounts,
        timestamp=moments,
        last_updated=moments,
    ),
    st.builds(
        Liquidation,
        exchange_id=texts,
        symbol=texts,
        order_id=st.none() | texts,
        liquidation_price=prices,
        size=amounts,
        side=st.sampled_from(["buy", "sell"]),
        timestamp=moments,
        last_updated=moments,
    ),
)


def level1(**changes: Any) -> Level1:
    return msgspec.structs.replace(Level1("binance", "BTC/USDT", 1.0, 2.0, 3.0, 4.0, AT, AT), **changes)


def wire(message: Message) -> dict[str, Any]:
    value, headers = MessageSerializer().encode(message)
    assert headers is None
    fields: dict[str, Any] = json.loads(value)
    return fields


@given(any_message)
def test_what_is_written_is_read_back_but_for_the_rounding_of_prices(message: Message) -> None:
    encoder = MessageSerializer()
    value, headers = encoder.encode(message)
    once = MessageDeserializer().decode(value, headers).message
    assert type(once) is type(message)
    assert encoder.encode(once) == (value, headers)
    rounded = {*price_fields(type(message)), *level_fields(type(message))}
    for name in message.__struct_fields__:
        before, after = getattr(message, name), getattr(once, name)
        assert before == after or name in rounded


@given(prices)
def test_the_strict_rule_rounds_prices_half_even_to_eight_decimals(price: float) -> None:
    fields: dict[str, Any] = json.loads(MessageSerializer(strict=True).encode(level1(best_bid=price))[0])
    wanted = Decimal(repr(price)).quantize(Decimal("1e-8"), context=EXACT)
    assert fields["bestBid"] == float(wanted)


@given(prices | st.floats(min_value=1e-11, max_value=1e-2))
def test_prices_keep_eight_decimals_or_seven_significant_digits(price: float) -> None:
    exact, written = Decimal(repr(price)), Decimal(repr(wire(level1(best_bid=price))["bestBid"]))
    eight = exact.quantize(Decimal("1e-8"), context=EXACT)
    if abs(eight - exact) <= exact * Decimal("1e-6"):
        assert float(written) == float(eight)
    elif price >= 1e-12:
        assert abs(written - exact) <= exact * Decimal("1e-6")
        assert len(written.normalize().as_tuple().digits) <= 7
    else:
        assert written == exact.quantize(Decimal("1e-18"), context=EXACT)


near_ties = st.builds(
    lambda units, off: float(f"{units}e-9") + off,
    st.integers(0, 10**13),
    st.sampled_from([0.0, 1e-12, -1e-12]),
).filter(lambda price: price >= 0)


@pytest.mark.parametrize("strict", [True, False])
@given(price=near_ties | st.floats(min_value=0, max_value=2e6))
def test_the_quick_way_of_rounding_gives_what_the_exact_one_gives(price: float, strict: bool) -> None:
    assert PriceRounder(strict=strict).round("price.usd_price", price) == round_price(price, strict=strict)


@given(st.floats(min_value=0, max_value=10, allow_nan=False))
def test_prices_that_rounding_changes_are_counted(price: float) -> None:
    encoder = MessageSerializer()
    fields = json.loads(encoder.encode(level1(best_ask=price))[0])
    assert dict(encoder.rounded_prices) == ({"level1.best_ask": 1} if fields["bestAsk"] != price else {})


@pytest.mark.parametrize(
    ("price", "text", "strict"),
    [
        (1e-8, b'"bestBid":1e-8', b'"bestBid":1e-8'),
        (123456789.123456789, b'"bestBid":123456789.12345679', b'"bestBid":123456789.12345679'),
        (0.000000015, b'"bestBid":1.5e-8', b'"bestBid":2e-8'),
        (0.000000025, b'"bestBid":2.5e-8', b'"bestBid":2e-8'),
        (1.131e-7, b'"bestBid":1.131e-7', b'"bestBid":1.1e-7'),
        (0.00000000012, b'"bestBid":1.2e-10', b'"bestBid":0.0'),
        (0.000123456789, b'"bestBid":0.0001234568', b'"bestBid":0.00012346'),
        (0.1 + 0.2, b'"bestBid":0.3', b'"bestBid":0.3'),
        (0.0, b'"bestBid":0.0', b'"bestBid":0.0'),
        (9e15, b'"bestBid":9000000000000000.0', b'"bestBid":9000000000000000.0'),
        (1e300, b'"bestBid":1e300', b'"bestBid":1e300'),
    ],
)
def test_remarkable_prices(price: float, text: bytes, strict: bytes) -> None:
    assert text + b"," in MessageSerializer().encode(level1(best_bid=price))[0]
    assert strict + b"," in MessageSerializer(strict=True).encode(level1(best_bid=price))[0]


def test_the_strict_rule_is_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COINSTREAM_SERIALIZATION_STRICT", "true")
    assert b'"bestBid":1.1e-7' in MessageSerializer().encode(level1(best_bid=1.131e-7))[0]


def book(**changes: Any) -> Book:
    valid = Book(
        exchange_id="binance",
        symbol="BTC/USDT",
        bids=[(1.5, 2.0), (1.4, 3.0)],
        asks=[(1.6, 1.0)],
        depth=20,
        timestamp=AT,
        last_updated=AT,
    )
    return msgspec.structs.replace(valid, **changes)


def test_prices_inside_a_book_are_rounded_and_counted() -> None:
    encoder = MessageSerializer(strict=True)
    fields = json.loads(encoder.encode(book(bids=[(0.1 + 0.2, 0.1 + 0.2), (1.131e-7, 1.0)]))[0])
    assert fields["bids"] == [[0.3, 0.1 + 0.2], [1.1e-7, 1.0]]
    assert (encoder.rounded_prices, encoder.lossy_prices) == ({"book.bids": 2}, {"book.bids": 1})


@pytest.mark.parametrize("number", [math.nan, math.inf, -1.0, None, "1"])
@pytest.mark.parametrize("at", [0, 1])
def test_a_level_that_no_book_has_is_refused_by_name(at: int, number: Any) -> None:
    level = [1.0, 2.0]
    level[at] = number
    with pytest.raises(MessageError, match="Book"):
        MessageSerializer().encode(book(asks=[(1.0, 1.0), tuple(level)]))


@pytest.mark.parametrize("side", ["", "Buy", None, 1])
def test_a_side_that_is_none_is_refused(side: Any) -> None:
    liquidation = Liquidation(
        exchange_id="x",
        symbol="BTC/USDT:USDT",
        liquidation_price=1.0,
        size=1.0,
        side=side,
        timestamp=AT,
        last_updated=AT,
    )
    with pytest.raises(MessageError, match="side"):
        MessageSerializer().encode(liquidation)


@pytest.mark.parametrize("price", [math.nan, math.inf, -math.inf, -1.0, -1e-9, None, "1", []])
@pytest.mark.parametrize("field", ["best_bid", "best_ask"])
def test_a_price_that_no_market_has_is_refused_by_name(field: str, price: Any) -> None:
    with pytest.raises(MessageError, match="Level1" if price is None else field):
        MessageSerializer().encode(level1(**{field: price}))


@pytest.mark.parametrize("size", [math.nan, math.inf, -1.0])
def test_a_size_that_no_market_has_is_refused_by_name(size: float) -> None:
    with pytest.raises(MessageError, match="ask_size"):
        MessageSerializer().encode(level1(ask_size=size))


@pytest.mark.parametrize("changes", [{"symbol": ""}, {"exchange_id": ""}])
def test_empty_names_are_refused(changes: dict[str, str]) -> None:
    with pytest.raises(MessageError, match=next(iter(changes))):
        MessageSerializer().encode(level1(**changes))


def test_optional_numbers_may_be_negative_only_where_that_has_a_meaning() -> None:
    price = Price("x", "BTC", 1.0, AT, price_change_24h=-5.5)
    assert wire(price)["priceChange24h"] == -5.5
    with pytest.raises(MessageError, match="market_cap"):
        MessageSerializer().encode(msgspec.structs.replace(price, market_cap=-1.0))
    with pytest.raises(MessageError, match="price_change_24h"):
        MessageSerializer().encode(msgspec.structs.replace(price, price_change_24h=math.nan))


@pytest.mark.parametrize("strict", [True, False])
@given(price=st.floats(min_value=0, max_value=1e-3, allow_nan=False))
def test_digits_that_rounding_destroys_are_counted(price: float, strict: bool) -> None:
    encoder = MessageSerializer(strict=strict)
    value, _ = encoder.encode(level1(best_bid=price))
    before, after = Decimal(repr(price)), Decimal(repr(json.loads(value)["bestBid"]))
    is_lost = abs(after - before) > before * Decimal("1e-6")
    assert dict(encoder.lossy_prices) == ({"level1.best_bid": 1} if is_lost else {})


@given(
    st.datetimes(min_value=datetime(1971, 1, 1), max_value=datetime(2200, 1, 1)),
    st.integers(min_value=-14 * 60, max_value=14 * 60),
)
def test_times_are_utc_milliseconds(naive: datetime, offset: int) -> None:
    moment = naive.replace(tzinfo=timezone(timedelta(minutes=offset)))
    fields = wire(level1(timestamp=moment))
    utc = moment.astimezone(UTC)
    assert fields["timestamp"] == utc.strftime("%Y-%m-%dT%H:%M:%S.") + f"{utc.microsecond // 1000:03d}Z"


@given(
    st.lists(
        st.datetimes(min_value=datetime(1971, 1, 1), max_value=datetime(9999, 1, 1)), min_size=2, max_size=2
    ),
    st.lists(st.sampled_from([0, 1, 999, 1000, 937_000, 999_999]), min_size=2, max_size=2),
    st.sampled_from(["a", '"', "é", '.123456Z"}', ',"lastUpdated":"x']),
)
def test_times_are_written_alike_whatever_their_digits(
    naive: list[datetime], digits: list[int], symbol: str
) -> None:
    stamp, updated = (
        moment.replace(microsecond=micros, tzinfo=UTC) for moment, micros in zip(naive, digits, strict=True)
    )
    quote = wire(level1(timestamp=stamp, last_updated=updated, symbol=symbol))
    assert (quote["timestamp"], quote["lastUpdated"], quote["symbol"]) == (text(stamp), text(updated), symbol)
    price = wire(Price("x", symbol, 1.5, updated))
    assert (price["lastUpdated"], price["symbol"]) == (text(updated), symbol)


def text(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def test_a_naive_time_is_refused() -> None:
    for field in ("timestamp", "last_updated"):
        with pytest.raises(MessageError, match="time zone"):
            MessageSerializer().encode(level1(**{field: datetime(2024, 1, 1)}))


def test_names_are_camel_case_and_absent_fields_are_left_out() -> None:
    assert list(wire(Price("x", "BTC", 1.5, AT, volume_24h=2.0))) == [
        "exchangeId",
        "symbol",
        "usdPrice",
        "lastUpdated",
        "volume24h",
    ]


@pytest.mark.parametrize("letter", ["a", "é", "漢", "😀"])
def test_bytes_not_characters_decide_over_compression(letter: str) -> None:
    bare = len(MessageSerializer().encode(level1(symbol="b"))[0]) - 1
    width = len(letter.encode())
    for spare, compressed in ((0, False), (1, True)):
        count, rest = divmod(COMPRESS_ABOVE - bare + spare, width)
        message = level1(symbol=letter * count + "b" * rest)
        value, headers = MessageSerializer().encode(message)
        if compressed:
            assert headers == [("compressed", b"true")]
            assert len(lz4.frame.decompress(value)) == COMPRESS_ABOVE + 1
        else:
            assert headers is None
            assert len(value) == COMPRESS_ABOVE
        assert MessageDeserializer().decode(value, headers).message == message


def test_unknown_fields_are_kept_beside_the_message_with_their_times() -> None:
    fields = wire(level1()) | {"venue": "spot", "fundingTime": "2024-08-08T00:00:00.000Z", "note": None}
    decoded = MessageDeserializer().decode(json.dumps(fields).encode(), topic="crypto-level1-binance")
    assert decoded.message == level1()
    assert dict(decoded.unknown) == {
        "venue": "spot",
        "fundingTime": datetime(2024, 8, 8, tzinfo=UTC),
        "note": None,
    }


@pytest.mark.parametrize(
    "value",
    [None, b"", b"{", b"[]", b"1", b"\xff\xfe", b"null", b'{"bestBid":1}', b"[" * 100_000],
)
def test_what_is_no_message_is_a_decode_error(value: bytes | None) -> None:
    with pytest.raises(DecodeError):
        MessageDeserializer().decode(value)


@given(st.binary(max_size=200), st.booleans())
def test_no_bytes_crash_the_reader(value: bytes, compressed: bool) -> None:
    headers = [("compressed", b"true")] if compressed else None
    with pytest.raises(DecodeError):
        MessageDeserializer().decode(value, headers, "crypto-prices")


def test_a_bomb_and_a_cut_frame_are_refused() -> None:
    bomb = lz4.frame.compress(bytes(64 * 1024 * 1024))
    for value in (bomb, lz4.frame.compress(b"x" * 5000)[:-8]):
        with pytest.raises(DecodeError, match="lz4"):
            MessageDeserializer().decode(value, [("compressed", b"true")])


@given(st.lists(st.text(max_size=8), min_size=1, max_size=5))
def test_fields_that_fit_no_type_are_named(names: list[str]) -> None:
    discriminator = {kind.discriminator for kind in MESSAGE_TYPES.values()}
    seen = [name for name in names if name not in discriminator]
    with pytest.raises(UnroutableError) as refused:
        classify(seen)
    assert all(repr(name) in str(refused.value) for name in seen)


@pytest.mark.parametrize("kind", MESSAGE_TYPES.values(), ids=lambda kind: kind.name)
def test_each_type_is_discriminator_its_field(kind: Any) -> None:
    assert classify(["exchangeId", kind.discriminator]) is kind
