from __future__ import annotations

import math
import random
import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal
from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coinstream.errors import LakeError
from coinstream.expectations.columns import Column, ValidationFrame, has_at_most, to_floats
from coinstream.expectations.comparisons import has_limits, rule_columns
from coinstream.expectations.rules import ROW_COUNT, Rule, rules_for
from coinstream.expectations.series import Steps
from coinstream.expectations.validation_frame import ValidationFrameBuilder
from coinstream.expectations.validator import ExpectationValidator, SuiteValidator
from coinstream.feeds.registry import Options, open_feed
from coinstream.lake.prepare import batches
from coinstream.lake.read_plan import FetchedChunk, ReadPlan
from coinstream.lake.schemas import spec_named
from coinstream.lake.validation import Batch, ValidationResult
from coinstream.messages import MESSAGE_TYPES, type_of
from coinstream.serialization import MessageSerializer
from coinstream.settings import LakeSettings
from tests.lake.support import (
    GOOD,
    START,
    analytics,
    book,
    derivative_ticker,
    iso,
    level1,
    liquidation,
    ohlcv,
    price,
    trade,
    without,
)

if TYPE_CHECKING:
    from great_expectations.core.expectation_validation_result import ExpectationValidationResult

NOW = START + timedelta(hours=1)
WIDE = Context(prec=80)


def batch_of(name: str, payloads: Sequence[bytes | dict[str, Any] | None]) -> Batch:
    values = [msgspec.json.encode(p) if isinstance(p, dict) else p for p in payloads]
    zeros, numbers = np.zeros(len(values), np.int64), np.arange(len(values), dtype=np.int64)
    chunk = FetchedChunk([f"crypto-{name}"], zeros, zeros, numbers, zeros, pa.array(values, pa.binary()), [])
    [batch] = batches(spec_named(name), [chunk], ReadPlan({}), max_rows=10**6, max_bytes=10**9)
    return batch


def validated(name: str, payloads: Sequence[bytes | dict[str, Any] | None]) -> ValidationResult:
    return ExpectationValidator(spec_named(name)).validate(batch_of(name, payloads), NOW)


def offenders(validation: ValidationResult) -> dict[str, list[int]]:
    return {o.name: o.rows.tolist() for o in validation.checks if not o.passed}


def day(moment: datetime) -> str:
    return iso(moment)


BAD: list[tuple[str, str, bytes | dict[str, Any] | None, bool]] = [
    ("level1", "readable", b"{", True),
    ("level1", "readable", None, True),
    ("level1", "readable", b"[]", True),
    ("level1", "readable", level1(bestBid="61000.1"), True),
    ("level1", "readable", level1(symbol=5), True),
    ("level1", "readable", level1(timestamp=1_700_000_000), True),
    ("level1", "readable", b'{"symbol":"A/B","symbol":"C/D"}', True),
    ("level1", "readable", b'{"bestBid":NaN}', True),
    ("level1", "readable", level1(bestBid=1e25), True),
    *(("level1", "complete", without(level1(), name), True) for name in level1()),
    ("level1", "complete", level1(bestBid=None), True),
    ("level1", "utc_times", level1(timestamp="2026-01-05T10:00:00.000+02:00"), True),
    ("level1", "utc_times", level1(timestamp="2026-01-05T10:00:00.000"), True),
    ("level1", "utc_times", level1(timestamp="2026-01-05"), True),
    ("level1", "utc_times", level1(lastUpdated="2026-13-05T10:00:00.000Z"), True),
    ("level1", "utc_times", level1(lastUpdated="2026-01-05T10:00:00.000Z\n"), True),
    ("level1", "exchange_form", level1(exchangeId="Binance"), True),
    ("level1", "exchange_form", level1(exchangeId="bin ance"), True),
    ("level1", "exchange_form", level1(exchangeId=""), True),
    ("level1", "exchange_form", level1(exchangeId="binance\n"), True),
    ("level1", "plausible_time", level1(timestamp="1970-01-01T00:00:00.000Z"), True),
    ("level1", "plausible_time", level1(timestamp="9999-01-01T00:00:00.000Z"), True),
    ("level1", "symbol_form", level1(symbol="BTCUSDT"), False),
    ("level1", "symbol_form", level1(symbol="BTC/ USDT"), False),
    ("level1", "symbol_form", level1(symbol="BTC/USDT\n"), False),
    ("level1", "price_precision", level1(bestBid=61000.123456789), True),
    ("level1", "price_precision", level1(bestBid=1.23456789e-9), True),
    ("level1", "price_precision", level1(bestBid=0.0123456789), True),
    ("level1", "plausible_time", level1(lastUpdated="2101-01-01T00:00:00.000Z"), True),
    ("level1", "prices_positive", level1(bestBid=0), True),
    ("level1", "prices_positive", level1(bestBid=-1.5), True),
    ("level1", "bid_at_most_ask", level1(bestBid=61000.14), True),
    ("level1", "sizes_positive", level1(bidSize=0), True),
    ("level1", "sizes_positive", level1(askSize=-0.1), True),
    ("level1", "clock_skew", level1(timestamp=day(NOW + timedelta(days=1))), False),
    ("trade", "price_precision", trade(tradePrice=61000.123456789), True),
    ("trade", "prices_positive", trade(tradePrice=0), True),
    ("trade", "sizes_positive", trade(size=0), True),
    ("trade", "side_form", trade(side="Buy"), True),
    ("trade", "symbol_form", trade(symbol="BTCUSDT"), False),
    ("book", "readable", book(bids=[[61000.12]]), True),
    ("book", "readable", book(asks=[[61000.13, 1, 2]]), True),
    ("book", "readable", book(asks=[[61000.13, None]]), True),
    ("book", "levels_sorted", book(bids=[[61000.0, 1], [61000.12, 1]]), True),
    ("book", "levels_sorted", book(asks=[[61000.13, 1], [61000.13, 2]]), True),
    ("book", "bid_at_most_ask", book(asks=[[60000.5, 1]]), True),
    ("book", "levels_within_depth", book(depth=1), True),
    ("book", "prices_positive", book(bids=[[61000.12, 1], [0, 1]]), True),
    ("book", "sizes_positive", book(asks=[[61000.13, 0]]), True),
    ("book", "price_precision", book(asks=[[61000.123456789, 1]]), True),
    ("derivativeticker", "prices_positive", derivative_ticker(markPrice=0), True),
    ("derivativeticker", "price_precision", derivative_ticker(indexPrice=1.0123456789), True),
    ("derivativeticker", "quantities_not_negative", derivative_ticker(openInterest=-1), True),
    ("derivativeticker", "funding_rate_is_fraction", derivative_ticker(fundingRate=1.5), False),
    ("liquidation", "sizes_positive", liquidation(size=-1), True),
    ("liquidation", "side_form", liquidation(side="long"), True),
    ("liquidation", "prices_positive", liquidation(liquidationPrice=0), True),
    ("price", "price_precision", price(usdPrice=0.123456789), True),
    ("price", "prices_positive", price(usdPrice=0), True),
    ("price", "quantities_not_negative", price(volume24h=-1), True),
    ("price", "clock_skew", price(lastUpdated=day(NOW + timedelta(days=1))), False),
    ("ohlcv", "low_at_most_open", ohlcv(openPrice=89), True),
    ("ohlcv", "low_at_most_close", ohlcv(closePrice=89), True),
    ("ohlcv", "open_at_most_high", ohlcv(openPrice=111), True),
    ("ohlcv", "close_at_most_high", ohlcv(closePrice=111), True),
    ("ohlcv", "quantities_not_negative", ohlcv(volume=-1), True),
    ("ohlcv", "close_after_open", ohlcv(closeTime=iso(START)), True),
    ("ohlcv", "price_precision", ohlcv(volume=1.123456789123, closePrice=100.000000001), True),
    ("analytics", "complete", without(analytics(), "btcDominance"), True),
    ("analytics", "quantities_not_negative", analytics(totalVolume=-5), True),
    ("analytics", "dominance_in_per_cent", analytics(btcDominance=101), False),
    ("analytics", "readable", analytics(activeCryptocurrencies=1.5), True),
    ("trade", "readable", trade(tradePrice="61000.1"), True),
    ("trade", "complete", without(trade(), "size"), True),
    ("book", "readable", book(bids=[[61000.1]]), True),
    ("book", "readable", book(asks=[[61000.1, "2"]]), True),
    ("book", "readable", book(asks={"61000.1": 2}), True),
    ("book", "complete", without(book(), "asks"), True),
    ("derivativeticker", "readable", derivative_ticker(fundingRate=True), True),
    ("liquidation", "complete", without(liquidation(), "side"), True),
]


@pytest.mark.parametrize("name", MESSAGE_TYPES)
def test_good_messages_meet_every_expectation(name: str) -> None:
    validation = validated(name, [GOOD[name](number) for number in range(50)])
    assert offenders(validation) == {}
    assert not validation.refused.any()
    assert {check.checked for check in validation.checks} == {50}
    assert [check.name for check in validation.checks] == [rule.name for rule in rules_for(name)]


def test_each_kind_of_fault_is_found_where_it_is() -> None:
    """All bad messages of a type in one batch, each between good ones."""
    for name in MESSAGE_TYPES:
        cases = [case for case in BAD if case[0] == name]
        payloads: list[Any] = []
        for case in cases:
            payloads += [GOOD[name](0), case[2]]
        validation = validated(name, [*payloads, GOOD[name](0)])
        found = offenders(validation)
        for at, (_, rule, payload, blocks) in enumerate(cases):
            row = 2 * at + 1
            assert row in found.get(rule, []), (rule, payload)
            assert bool(validation.refused[row]) is blocks, (rule, payload)
        assert not validation.refused[::2].any()


def test_every_rule_has_a_message_that_breaks_it() -> None:
    of_neighbours = {"row_count", "monotone_times", "no_jump", "no_gap"}
    broken = {rule for _, rule, _, _ in BAD}
    known = {rule.name for name in MESSAGE_TYPES for rule in rules_for(name)}
    assert known == broken | of_neighbours


def test_a_time_that_goes_back_is_told_also_across_batches() -> None:
    validator = ExpectationValidator(spec_named("level1"))
    first = validator.validate(batch_of("level1", [level1(100), level1(300), level1(199), level1(400)]), NOW)
    assert offenders(first) == {"monotone_times": [2]}
    second = validator.validate(batch_of("level1", [level1(299), level1(5, symbol="ETH/USDT")]), NOW)
    assert offenders(second) == {"monotone_times": [0]}
    assert not second.refused.any()


def test_missing_candles_are_gaps_and_updates_of_one_are_none() -> None:
    validation = validated("ohlcv", [ohlcv(0), ohlcv(0), ohlcv(1), ohlcv(4), ohlcv(5)])
    assert offenders(validation) == {"no_gap": [3]}


def test_a_jump_is_a_step_out_of_proportion() -> None:
    quiet = [price(i, usdPrice=round(2500 + 0.3 * math.sin(i), 4)) for i in range(100)]
    quiet[60] = price(60, usdPrice=2800)
    assert offenders(validated("price", quiet)) == {"no_jump": [60, 61]}
    wild = [price(i, usdPrice=round(2500 * (1.05 if i % 2 else 0.95), 4)) for i in range(100)]
    assert offenders(validated("price", wild)) == {}


@pytest.mark.parametrize(("allowed", "flagged"), [(3.0, {"no_jump": [60, 61]}), (1e6, {})])
def test_the_step_of_a_jump_is_a_setting(allowed: float, flagged: dict[str, list[int]]) -> None:
    quiet = [price(i, usdPrice=round(2500 + 0.3 * math.sin(i), 4)) for i in range(100)]
    quiet[60] = price(60, usdPrice=2510)
    validator = ExpectationValidator(spec_named("price"), LakeSettings(jump_deviations=allowed))
    assert offenders(validator.validate(batch_of("price", quiet), NOW)) == flagged


@pytest.mark.parametrize(("tolerance_ms", "flagged"), [(0, {"clock_skew": [5]}), (600, {})])
def test_the_tolerated_time_ahead_is_a_setting(tolerance_ms: int, flagged: dict[str, list[int]]) -> None:
    """One quote of twenty is half a second ahead of its receipt, which is no skew of the exchange's clock."""
    quotes = [level1(number) for number in range(20)]
    quotes[5] = level1(5, timestamp=iso(START + timedelta(milliseconds=50 + 20 + 500)))
    validator = ExpectationValidator(spec_named("level1"), LakeSettings(clock_tolerance_ms=tolerance_ms))
    assert offenders(validator.validate(batch_of("level1", quotes), NOW)) == flagged


def test_an_exchange_whose_clock_is_ahead_is_not_blamed_for_it() -> None:
    """Binance futures run 1.2 s ahead of the receipt clock."""
    ahead = [level1(i, lastUpdated=iso(START + timedelta(milliseconds=10 * i - 1200))) for i in range(100)]
    assert offenders(validated("level1", ahead)) == {}
    ahead[50] = level1(50, lastUpdated=iso(START - timedelta(milliseconds=3_000)))
    assert offenders(validated("level1", ahead)) == {"clock_skew": [50]}


@pytest.mark.parametrize(("limit_ms", "flagged"), [(0, list(range(100))), (5_000, [])])
def test_a_clock_skew_above_the_setting_is_a_wrong_time(limit_ms: int, flagged: list[int]) -> None:
    """The exchange's clock is 1.5 s ahead in every quote, and one second is tolerated."""
    quotes = [
        level1(
            number,
            timestamp=iso(START + timedelta(milliseconds=10 * number + 1_500)),
            lastUpdated=iso(START + timedelta(milliseconds=10 * number)),
        )
        for number in range(100)
    ]
    validator = ExpectationValidator(spec_named("level1"), LakeSettings(clock_skew_max_ms=limit_ms))
    found = offenders(validator.validate(batch_of("level1", quotes), NOW))
    assert found == ({"clock_skew": flagged} if flagged else {})


def test_offenders_are_shown_with_what_explains_them() -> None:
    validation = validated("level1", [level1(), level1(bestBid=61001.5)])
    [check] = [o for o in validation.checks if o.name == "bid_at_most_ask"]
    assert (check.severity, check.refuses_rows, check.checked, check.failed) == ("error", True, 2, 1)
    [shown] = check.samples
    assert shown["best_bid"] == "61001.500000000000000000"
    assert (shown["symbol"], shown["offset"]) == ("BTC/USDT", 1)


def test_the_packaged_recording_meets_what_blocks() -> None:
    messages: dict[str, list[bytes]] = {}
    encoder = MessageSerializer()
    for part in open_feed("binance", Options(speed=None)).messages(threading.Event()):
        for message in part:
            messages.setdefault(type_of(message).name, []).append(encoder.encode(message)[0])
    assert sum(map(len, messages.values())) > 20_000
    for name, payloads in messages.items():
        validation = ExpectationValidator(spec_named(name)).validate(
            batch_of(name, payloads), datetime.now(UTC)
        )
        assert not validation.refused.any(), offenders(validation).keys()


@given(
    st.lists(st.decimals(min_value=0, max_value=10**9, places=None, allow_nan=False), min_size=1, max_size=20)
)
def test_precision_is_proved_on_the_digits_of_the_wire(numbers: list[Decimal]) -> None:
    template = msgspec.json.encode(price()).replace(b"2500.5", b"%s")
    texts = [format(number, "f") for number in numbers]
    batch = batch_of("price", [template % text.encode() for text in texts])
    frame = ValidationFrameBuilder(spec_named("price"), LakeSettings()).build(batch, NOW)
    for text, fault, stored, beyond in zip(
        texts,
        batch.fault.to_pylist(),
        batch.rows["usd_price"].to_pylist(),
        frame["decimals_beyond"].values,
        strict=True,
    ):
        decimals = len(text.partition(".")[2].rstrip("0"))
        if fault is not None:
            assert decimals > 18
            continue
        assert stored == Decimal(text)
        assert max(decimals - allowed_decimals(text), 0) == beyond


def allowed_decimals(text: str) -> int:
    """Return the decimals of a price, from the text: eight, or seven significant digits of a small one."""
    exact = Fraction(text)
    at_eight = Fraction(round(exact * 10**8), 10**8)
    if abs(at_eight - exact) * 10**6 <= exact:
        return 8
    fraction = text.partition(".")[2]
    return min(len(fraction) - len(fraction.lstrip("0")) + 7, 18)


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("0.0000001131", True),
        ("0.00000000012", True),
        ("1.131e-7", True),
        ("0.0000001234567", True),
        ("0.00000012345678", False),
        ("0.000000000000000001", True),
        ("61000.12345678", True),
        ("61000.123456789", False),
        ("0.123456789", False),
    ],
)
def test_a_small_price_may_keep_seven_significant_digits(text: str, good: bool) -> None:
    payload = msgspec.json.encode(price()).replace(b"2500.5", text.encode())
    validation = validated("price", [payload])
    assert ("price_precision" not in offenders(validation)) is good
    assert bool(validation.refused[0]) is not good


def test_a_small_step_back_is_no_fault_and_its_tolerance_is_a_setting() -> None:
    payloads = [level1(0), level1(2), level1(0), level1(103), level1(3), level1(104), level1(3)]
    assert offenders(validated("level1", payloads)) == {"monotone_times": [6]}
    strict = ExpectationValidator(spec_named("level1"), LakeSettings(step_back_tolerance_ms=0))
    assert offenders(strict.validate(batch_of("level1", payloads), NOW)) == {"monotone_times": [2, 4, 6]}


@pytest.mark.parametrize("name", ["level1", "price", "ohlcv", "analytics"])
def test_a_message_ahead_of_its_receipt_is_flagged_and_genuine_ones_are_not(name: str) -> None:
    late = iso(NOW + timedelta(hours=1))
    times = {column.wire: late for column in spec_named(name).times if column.wire != "openTime"}
    good = [GOOD[name](number) for number in range(20)]
    payloads = [*good[:5], {**good[5], **times}, *good[5:]]
    validator = ExpectationValidator(spec_named(name))
    assert offenders(validator.validate(batch_of(name, payloads), NOW)) == {"clock_skew": [5]}
    # The message ahead is no reference for the next batch either.
    assert offenders(validator.validate(batch_of(name, [GOOD[name](20)]), NOW)) == {}


def test_times_of_java_and_dotnet_have_up_to_nine_fractional_digits() -> None:
    texts = ["2026-01-05T10:00:00.1234567Z", "2026-01-05T10:00:00.123456789Z", "2026-01-05T10:00:00.9999999Z"]
    batch = batch_of("level1", [level1(timestamp=text, lastUpdated=text) for text in texts])
    decode = msgspec.json.Decoder(datetime).decode
    expected = [decode(msgspec.json.encode(text)) for text in texts]
    assert batch.rows["timestamp"].to_pylist() == expected
    assert batch.rows["last_updated"].to_pylist() == expected
    assert batch.utc_times.to_pylist() == [True] * 3
    assert offenders(ExpectationValidator(spec_named("level1")).validate(batch, NOW)) == {}


def frame_of(name: str, payloads: Sequence[bytes | dict[str, Any] | None]) -> ValidationFrame:
    return ValidationFrameBuilder(spec_named(name), LakeSettings()).build(batch_of(name, payloads), NOW)


def columns_of(frame: pd.DataFrame) -> ValidationFrame:
    return ValidationFrame(
        len(frame), {str(name): Column(partial(frame[name].to_numpy)) for name in frame.columns}
    )


def test_bounds_and_comparisons_find_what_great_expectations_finds_on_every_row() -> None:
    dice = random.Random(5)
    for name in MESSAGE_TYPES:
        bad = [case[2] for case in BAD if case[0] == name]
        # One validator for all, which remembers what held.
        validator = SuiteValidator(name, rules_for(name))
        frames = []
        for amount in (0, 3, 0, len(bad), 2):
            payloads: list[Any] = [GOOD[name](number) for number in range(80 + amount)]
            chosen = bad if amount == len(bad) else [dice.choice(bad) for _ in range(amount)]
            for place, payload in zip(dice.sample(range(len(payloads)), amount), chosen, strict=True):
                payloads[place] = payload
            frames.append(frame_of(name, payloads))
        found = agrees_on_every_row(validator, frames)
        assert found >= {case[1] for case in BAD if case[0] == name}


def agrees_on_every_row(validator: SuiteValidator, frames: Sequence[ValidationFrame]) -> set[str]:
    """Return the rules that were broken in one of the frames, which are validated one after the other.

    An evaluation by Great Expectations costs the same for many rows as for few: the rules with limits, which
    it decides row by row, it evaluates on the rows of all frames at once, the others on each frame.
    """
    limited = [rule for rule in validator.rules if has_limits(rule) and rule.name != ROW_COUNT]
    others = [rule for rule in validator.rules if rule not in limited]
    names = list(dict.fromkeys(column for rule in limited for column in rule_columns(rule)))
    together = pd.concat([frame.to_pandas(names) for frame in frames], ignore_index=True)
    on_all = validator.evaluate_every_row(columns_of(together), limited)
    broken = set[str]()
    start = 0
    for frame in frames:
        on_frame = validator.evaluate_every_row(frame, others)
        checks = validator.validate(frame)
        assert {check.name for check in checks} == on_all.keys() | on_frame.keys()
        for check in checks:
            if check.name in on_frame:
                expected = unexpected_rows(on_frame[check.name])
                assert check.passed is bool(on_frame[check.name].success)
            else:
                rows = unexpected_rows(on_all[check.name])
                expected = [row - start for row in rows if start <= row < start + len(frame)]
                assert check.passed is (not expected)
            assert check.rows.tolist() == expected, check.name
            assert check.checked == len(frame)
        broken |= {check.name for check in checks if not check.passed}
        start += len(frame)
    for name, result in on_all.items():
        assert bool(result.success) is (name not in broken), name
    return broken


def unexpected_rows(result: ExpectationValidationResult) -> list[int]:
    return list((result.result or {}).get("unexpected_index_list") or [])


@pytest.mark.parametrize("name", MESSAGE_TYPES)
def test_no_value_of_a_column_lies_beyond_its_bounds(name: str) -> None:
    """Bounds may be wider than the values, never narrower."""
    bad = [case[2] for case in BAD if case[0] == name]
    payloads: list[Any] = [GOOD[name](number) for number in range(60)]
    for mixed in (payloads, [*payloads[:20], *bad, *payloads[20:]], [None], [without(payloads[0], "symbol")]):
        frame = frame_of(name, mixed)
        for column in {column for rule in rules_for(name) for column in rule_columns(rule)}:
            values = pd.Series(frame[column].values, dtype=frame[column].values.dtype)
            if values.dtype == object:
                present, bounds = values.notna().astype(float), frame[column].presence
            else:
                present, bounds = values.astype(float).dropna(), frame[column].bounds
            assert present.between(bounds.least, bounds.greatest).all(), column


numbers = st.floats(-5, 5) | st.just(math.nan)


@settings(max_examples=12, deadline=None)
@given(st.lists(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=6), min_size=1, max_size=5))
def test_what_held_before_is_no_excuse_for_a_later_batch(batches: list[list[tuple[float, float]]]) -> None:
    pair = {"column_A": "a", "column_B": "b", "or_equal": True, "ignore_row_if": "either_value_is_missing"}
    limits = {"column": "a", "min_value": -2, "max_value": 3, "strict_min": True, "strict_max": True}
    rules = [
        Rule("bounds", "", "ExpectColumnValuesToBeBetween", {"column": "a", "min_value": -2, "max_value": 3}),
        Rule("strict", "", "ExpectColumnValuesToBeBetween", limits),
        Rule("pair", "", "ExpectColumnPairValuesAToBeGreaterThanB", pair),
        Rule("greater", "", "ExpectColumnPairValuesAToBeGreaterThanB", {**pair, "or_equal": False}),
        Rule("absent", "", "ExpectColumnValuesToBeNull", {"column": "b"}),
        Rule("flag", "", "ExpectColumnValuesToBeInSet", {"column": "flag", "value_set": [True]}),
    ]
    validator = SuiteValidator("price", rules)
    frames = [pd.DataFrame(rows, columns=["a", "b"], dtype=float) for rows in batches]
    agrees_on_every_row(validator, [columns_of(frame.assign(flag=frame["a"] > 0)) for frame in frames])


def test_great_expectations_evaluates_rules_with_limits_once(monkeypatch: pytest.MonkeyPatch) -> None:
    evaluated = list[int]()
    evaluate = SuiteValidator._evaluate

    def noted(self: SuiteValidator, frame: pd.DataFrame, suite: Any, result_format: Any) -> Any:
        evaluated.append(len(suite.expectations))
        return evaluate(self, frame, suite, result_format)

    monkeypatch.setattr(SuiteValidator, "_evaluate", noted)
    validator = SuiteValidator("level1", rules_for("level1"))
    for size in (1.0, 1.5, -1.0):
        validator.validate(frame_of("level1", [level1(number, bidSize=size) for number in range(80)]))
    assert evaluated == [len(validator.rules)]


def test_a_rule_whose_limits_are_refused_is_evaluated_on_every_row() -> None:
    """No number lies between these limits, so they say nothing about a batch."""
    limits = {"column": "a", "min_value": 1, "max_value": 1, "strict_min": True}
    rule = Rule("own", "", "ExpectColumnValuesToBeBetween", limits)
    assert agrees_on_every_row(SuiteValidator("price", [rule]), [columns_of(pd.DataFrame({"a": [2.0]}))])


@pytest.mark.parametrize("more", [{"mostly": 0.5}, {"row_condition": "a < 0", "condition_parser": "pandas"}])
def test_a_rule_of_a_share_or_under_a_condition_is_evaluated_on_every_row(more: dict[str, Any]) -> None:
    """One good bound, or one that the condition leaves out, says nothing of the others."""
    frame = pd.DataFrame({"a": [9.0, 9.0, 9.0, -1.0, 0.0, 9.0]})
    rule = Rule(
        "own", "", "ExpectColumnValuesToBeBetween", {"column": "a", "min_value": 0, "max_value": 1, **more}
    )
    agrees_on_every_row(SuiteValidator("price", [rule]), [columns_of(frame)])


def test_a_rule_whose_column_is_missing_is_an_error_and_no_success() -> None:
    frame = frame_of("price", [price()])
    for kind in ("ExpectColumnMaxToBeBetween", "ExpectColumnValuesToBeBetween"):
        rule = Rule("own", "a rule of ours", kind, {"column": "nope", "max_value": 1})
        with pytest.raises(LakeError, match="could not be evaluated"):
            SuiteValidator("price", [rule]).validate(frame)


@pytest.mark.parametrize("name", ["price", "level1", "trade", "book"])
def test_the_strict_setting_allows_eight_decimals_only(name: str) -> None:
    digits = {"price": "usdPrice", "level1": "bestBid", "trade": "tradePrice"}
    small = {"bids": [[1.131e-7, 1]]} if name == "book" else {digits[name]: 1.131e-7}
    batch = batch_of(name, [{**GOOD[name](0), **small}])
    for strict in (False, True):
        chosen = LakeSettings(strict_prices=strict)
        refused = ExpectationValidator(spec_named(name), chosen).validate(batch, NOW)
        assert ("price_precision" in offenders(refused)) is strict
        [rule] = [rule for rule in rules_for(name, chosen) if rule.name == "price_precision"]
        assert ("significant digits" in rule.description) is not strict


def test_the_strict_setting_is_that_of_the_serializer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COINSTREAM_SERIALIZATION_STRICT", "true")
    assert LakeSettings().strict_prices
    monkeypatch.setenv("COINSTREAM_LAKE_STRICT_PRICES", "false")
    assert not LakeSettings().strict_prices


@given(
    st.lists(
        st.none()
        | (
            st.integers(-(10**38) + 1, 10**38 - 1)
            | st.integers(-(10**19), 10**19)
            | st.integers(-(10**28) + 1, 10**28 - 1).map(lambda units: units * 10**10)
        ).map(lambda units: Decimal(units).scaleb(-18, WIDE)),
        max_size=12,
    ),
    st.integers(5, 18),
)
def test_bits_of_decimals_tell_floats_and_digits(numbers: list[Decimal | None], places: int) -> None:
    whole = pa.array(numbers, pa.decimal128(38, 18))
    for column in (whole, pa.chunked_array([whole[:2], whole[2:]])):
        floats = to_floats(column)
        fits = has_at_most(column, places)
        for number, approximate, few in zip(numbers, floats, fits, strict=True):
            if number is None:
                assert math.isnan(approximate)
                assert few
                continue
            assert math.isclose(approximate, number, rel_tol=1e-15)
            assert few == (int(number.scaleb(18, WIDE)) % 10 ** (18 - places) == 0)
    ordered = sorted(number for number in numbers if number is not None)
    assert (np.diff(to_floats(pa.array(ordered, pa.decimal128(38, 18)))) >= 0).all()


PRICED_SERIES = st.tuples(st.integers(0, 2), st.none() | st.floats(0.5, 2.0))


@given(st.one_of(*(st.lists(PRICED_SERIES, min_size=size, max_size=80) for size in (1, 40))))
def test_deviations_are_steps_against_the_median_step(rows: list[tuple[int, float | None]]) -> None:
    series = np.array([number for number, _ in rows], np.int32)
    value = np.array([math.nan if found is None else found for _, found in rows])
    event, unknown = np.arange(len(rows), dtype=np.float64), np.full(4, math.nan)
    before = dict.fromkeys(("event", "value", "end"), unknown)
    steps = Steps(series, event, value, event, np.ones(len(rows), np.bool_), before)

    expected = np.full(len(rows), math.nan)
    for number in range(4):
        mine = np.flatnonzero(series == number)
        off = np.abs(np.diff(np.log(value[mine])))
        known = off[~np.isnan(off)]
        if len(known) >= 10:
            expected[mine[1:]] = off / max(float(np.median(known)) * 1.4826, 5e-4)
    np.testing.assert_allclose(steps.in_rows(steps.deviations), expected, rtol=1e-12)
