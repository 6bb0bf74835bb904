"""Blocks are read as one message at a time would be."""

from __future__ import annotations

import re
from dataclasses import replace
from decimal import Decimal
from typing import Any

import lz4.frame
import msgspec
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coinstream.lake import decoding, plain_payloads
from coinstream.lake.decoding import BlockDecoder, DecodedBlock
from coinstream.lake.plain_payloads import PlainDecoder, common_times, is_plain
from coinstream.lake.schemas import NUMBER, TIME, FieldColumn, spec_named
from coinstream.lake.strict_decoder import StrictDecoder
from coinstream.messages import Level1
from coinstream.serialization import MessageSerializer
from tests.lake.support import book, level1

SPEC = spec_named("level1")
GOOD = msgspec.json.encode(level1())

# Of these Arrow takes some for other numbers, without a word.
large = ["1e30", "1.5E+25", "-7E+0024", "-412883481310264263581", "-591228798340948118042460077", "9" * 21]
small = [
    "-1E-077",
    "356239716080174253154673136665592386E-6",
    "0.0428027060121005e-17",
    "0.1234567890123456789",
]
numbers = st.sampled_from(["1", "0.00000001", "-3.5", "1e-8", "2e3", '"1.5"', "null", '"x"', *large, *small])
texts = st.sampled_from(
    ['"binance"', '"a b"', '"\\u0041"', '"\\n"', '"é"', "5", "null", '"}{"', '"}"', '"{"']
)
gaps = st.sampled_from(["", "", " ", "\n", "\r\n"])


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    fields = {
        "exchangeId": draw(texts),
        "symbol": draw(texts),
        "bestBid": draw(numbers),
        "bestAsk": draw(numbers),
        "bidSize": "1",
        "askSize": "2",
        "timestamp": '"2026-01-05T10:00:00.000Z"',
        "lastUpdated": draw(st.sampled_from(['"2026-01-05T10:00:00Z"', '"yesterday"', "7"])),
    }
    for name in draw(st.lists(st.sampled_from(sorted(fields)), max_size=1)):
        del fields[name]
    if draw(st.booleans()):
        fields["other"] = draw(texts)
    gap = draw(gaps)
    text = f",{gap}".join(f'"{name}"{gap}:{gap}{value}' for name, value in fields.items())
    return f"{{{gap}{text}{gap}}}".encode()


broken = st.sampled_from(
    [
        b"",
        b"{}",
        GOOD + GOOD,
        GOOD + b"\n" + GOOD,
        GOOD[:-9],
        GOOD[9:],
        b"[" + GOOD + b"]",
        b'{"symbol":"}',
        b'{","a":1}',
    ]
)
payloads = st.lists(st.just(GOOD) | messages() | broken | st.binary(max_size=30) | st.none(), max_size=12)


@given(payloads)
def test_a_block_is_read_as_its_messages_are_one_by_one(values: list[bytes | None]) -> None:
    decoded = BlockDecoder(SPEC).decode(pa.array(values, pa.binary()))
    assert decoded.payloads.to_pylist() == values
    assert rows_of(decoded) == [by_the_letter(value) for value in values]


def test_what_is_split_inside_of_a_message_is_read_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks end at line ends, which a message may have inside."""
    monkeypatch.setattr(decoding, "_BLOCK_BYTES", 2 * len(GOOD))
    lines = msgspec.json.format(GOOD, indent=2)
    values = [GOOD, lines, GOOD, GOOD, lines] * 20
    decoded = BlockDecoder(SPEC).decode(pa.array(values, pa.binary()))
    assert rows_of(decoded) == [by_the_letter(GOOD)] * 100


def test_a_message_larger_than_a_block_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "_BLOCK_BYTES", len(GOOD) // 3)
    assert (
        rows_of(BlockDecoder(SPEC).decode(pa.array([GOOD] * 50, pa.binary()))) == [by_the_letter(GOOD)] * 50
    )


def test_frames_are_opened_and_broken_ones_are_faults() -> None:
    frame = lz4.frame.compress(GOOD)
    decoded = BlockDecoder(SPEC).decode(pa.array([frame, GOOD, frame[:-4], None], pa.binary()), [0, 2, 3])
    first, second, third, last = rows_of(decoded)
    assert first == second == by_the_letter(GOOD)
    assert "lz4" in third["fault"]
    assert last["fault"]
    assert decoded.payloads.to_pylist() == [frame, GOOD, frame[:-4], None]


def test_nothing_is_nothing() -> None:
    assert BlockDecoder(SPEC).decode(pa.array([], pa.binary())).rows.num_rows == 0


def rows_of(decoded: DecodedBlock) -> list[dict[str, Any]]:
    """Return what is there of each row, with its fault or its times in a wrong form."""
    rows = decoded.rows.to_pylist()
    found = zip(rows, decoded.fault.to_pylist(), decoded.utc_times.to_pylist(), strict=True)
    return [_there({**row, "fault": fault, "utc_times": good}) for row, fault, good in found]


def by_the_letter(value: bytes | None) -> dict[str, Any]:
    """Return the same of the payload alone."""
    row = StrictDecoder(SPEC).read(value)
    times = {column.name: row.pop(column.name, None) for column in SPEC.columns if column.type == TIME}
    read = {name: decoding._time(text) for name, text in times.items()}
    wrong = any(text is not None and read[name] is None for name, text in times.items())
    return _there({**row, **read, "utc_times": not wrong})


def _there(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if value is not None}


@pytest.mark.parametrize("level", [[1], [1, 2, 3], [], [1, None], [None, 1], None, 1, ["1", 2]])
def test_a_level_that_is_no_pair_of_numbers_is_a_fault_also_among_good_books(level: object) -> None:
    payloads = [msgspec.json.encode(book(number)) for number in range(100)]
    payloads[50] = msgspec.json.encode(book(bids=[level]))
    decoded = BlockDecoder(spec_named("book")).decode(pa.array(payloads, pa.binary()))
    faults = decoded.fault.to_pylist()
    assert [at for at, fault in enumerate(faults) if fault] == [50]
    alone = BlockDecoder(spec_named("book")).decode(pa.array(payloads[50:51], pa.binary()))
    assert alone.fault.to_pylist() == faults[50:51]


@given(st.integers(0, 9), st.integers(0, 40), st.integers(0, 25), st.integers(0, 40))
def test_a_long_number_is_found_wherever_it_lies(offset: int, before: int, digits: int, after: int) -> None:
    payload = b"," * before + b"123456789" * 3
    payload = payload[: before + digits] + b"," * after
    values = pa.array([b"x" * offset, payload, b"}"], pa.binary())[1:]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(plain_payloads, "_WINDOW", 24)
        if digits >= 20:
            assert not is_plain(values)
        if digits < 13:
            assert is_plain(values)


@pytest.mark.parametrize("odd", [b"1e5", b"1E5", b"0e-12", b"\\u0041"])
def test_exponents_and_backslashes_are_not_plain(odd: bytes) -> None:
    good = msgspec.json.encode(level1())
    assert is_plain(pa.array([good], pa.binary()))
    assert not is_plain(pa.array([good, b'{"a":' + odd + b"}"], pa.binary()))


@pytest.mark.parametrize(
    "payload",
    [
        {"bestBid": "61000.1"},
        {"bestBid": None},
        {"symbol": 5},
        {"bestBid": 1e-12},
        {"symbol": 'a"b'},
        {"other": 1},
    ],
)
def test_a_block_is_plain_only_where_every_message_is(payload: dict[str, Any]) -> None:
    good = [msgspec.json.encode(level1(number)) for number in range(20)]
    decoder = BlockDecoder(SPEC)
    assert decoder._plain_block(pa.array(good, pa.binary())) is not None
    odd = msgspec.json.encode({**level1(), **payload})
    assert decoder._plain_block(pa.array([*good, odd], pa.binary())) is None
    twice = odd.replace(b'"symbol"', b'"symbol":"A/B","symbol"')
    assert decoder._plain_block(pa.array([*good, twice], pa.binary())) is None


WIRE = [
    *(
        "0",
        "-1",
        "1.50000000",
        "00.5",
        "01",
        "1.",
        ".5",
        "+1",
        "1e5",
        "1.2.3",
        "1 ",
        " 1",
        "0x1",
        "NaN",
        "/1",
    ),
    *("9" * 20, "9" * 21, "0." + "1" * 18, "0." + "1" * 19, "1,2", "[1]", "true", '"1"', "null", "{}", ""),
]


@st.composite
def of_one_form(draw: st.DrawFn) -> list[bytes]:
    """Return payloads of the serializer's form, some of them changed in one value or in one byte."""
    number = st.decimals(0, 10**11, places=draw(st.integers(0, 9))).map(lambda n: f"{n:f}")
    text = st.text(st.characters(codec="ascii", exclude_characters='"\\', min_codepoint=32), max_size=12)
    values = []
    for _ in range(draw(st.integers(1, 8))):
        bid, ask, size = draw(number), draw(number), draw(number)
        values.append(
            f'{{"exchangeId":"{draw(text)}","symbol":"{draw(text)}","bestBid":{bid},"bestAsk":{ask},'
            f'"bidSize":{size},"askSize":{size},"timestamp":"2026-01-05T10:00:00.123Z",'
            '"lastUpdated":"2026-01-05T10:00:01.000Z"}'.encode()
        )
    if draw(st.booleans()):
        at = draw(st.integers(0, len(values) - 1))
        place = draw(st.integers(0, len(values[at]) - 1))
        odd = draw(
            st.sampled_from([b'"', b"\\", b",", b"}", b"{", b":", b" ", b"0", b"x", b"\n", b"\xe9", b""])
        )
        values[at] = values[at][:place] + odd + values[at][place + draw(st.integers(0, 2)) :]
    if draw(st.booleans()):
        at = draw(st.integers(0, len(values) - 1))
        name, odd_number = draw(st.sampled_from([b"bestBid", b"askSize"])), draw(st.sampled_from(WIRE))
        values[at] = re.sub(rb'(?<="%s":)[^,]*' % name, odd_number.encode(), values[at], count=1)
    return values


@given(of_one_form())
def test_payloads_of_one_form_are_read_as_one_by_one(values: list[bytes]) -> None:
    expected = [by_the_letter(value) for value in values]
    assert rows_of(BlockDecoder(SPEC).decode(pa.array(values, pa.binary()))) == expected
    sliced = pa.array([GOOD, *values, GOOD], pa.binary())[1:-1]
    assert rows_of(BlockDecoder(SPEC).decode(sliced)) == expected


def test_what_the_serializer_writes_is_of_one_form() -> None:
    quotes = [
        msgspec.convert({**level1(number), "bestBid": price}, Level1)
        for number, price in enumerate((0.1, 61000, 1e-8))
    ]
    payloads = [MessageSerializer().encode(quote)[0] for quote in quotes]
    columns = PlainDecoder(SPEC).decode(pa.array(payloads, pa.binary()))
    assert columns is not None
    assert columns["best_bid"].to_pylist() == [Decimal("0.1"), Decimal(61000), Decimal("0.00000001")]
    assert list(columns) == [column.name for column in SPEC.columns]


def test_fields_with_short_names_are_compared_too() -> None:
    trade = {"id": "5", "p": 1}
    spec = replace(SPEC, columns=tuple(_column(name) for name in ("id", "p")))
    payload = msgspec.json.encode(trade)
    decoder = PlainDecoder(spec)
    columns = decoder.decode(pa.array([payload] * 3, pa.binary()))
    assert columns is not None
    assert columns["id"].to_pylist() == ["5"] * 3
    assert decoder.decode(pa.array([payload, payload.replace(b"id", b"ix")], pa.binary())) is None
    assert decoder.decode(pa.array([payload, payload.replace(b'"p"', b'"q"')], pa.binary())) is None


def _column(name: str) -> FieldColumn:
    return FieldColumn(name, name, NUMBER if name == "p" else pa.string(), required=True, is_price=False)


def test_times_of_the_common_form_are_read_at_once() -> None:
    good = ["2026-01-05T10:00:00.000Z", "1999-12-31T23:59:59.999Z"]
    texts = pa.chunked_array([good, [], good[1:]], pa.string())
    assert common_times(texts) == texts.cast(TIME)
    for odd in (
        "2026-01-05 10:00:00.000Z",
        "2026-02-30T10:00:00.000Z",
        "2026-01-05T10:00:00.0000",
        "2026-01-05T10:00:00.00Z",
        "3026-01-05T10:00:00.000Z",
        "2026-01-05T10:00+02:00.Z",
        None,
    ):
        assert common_times(pa.chunked_array([[*good, odd]], pa.string())) is None
