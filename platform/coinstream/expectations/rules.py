"""Define the rules of each message type, one expectation per rule, in display order.

A rule that refuses rows depends only on the message, not on its neighbors or the clock, so that a message
landed again after a crash has the same result. Rules on neighbors only warn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from coinstream.lake.validation import Severity
from coinstream.messages import PRICE_DECIMALS
from coinstream.serialization.precision import SIGNIFICANT_DIGITS
from coinstream.settings import LakeSettings

if TYPE_CHECKING:
    from great_expectations.expectations import Expectation

ROW_COUNT: Final = "row_count"


@dataclass(frozen=True)
class Rule:
    """One expectation on the validation frame.

    Attributes:
        name: short, stable name of the Dagster check and of the reason in the quarantine.
        kind: class in `great_expectations.expectations`.
        arguments: arguments of the class.
        columns: message columns shown with failed rows.
    """

    name: str
    description: str
    kind: str
    arguments: dict[str, Any] = field(default_factory=dict)
    columns: tuple[str, ...] = ()
    severity: Severity = "warn"
    refuses_rows: bool = False

    def expectation(self) -> Expectation:
        """Return the rule as an expectation of Great Expectations."""
        import great_expectations.expectations as gxe

        build: Callable[..., Expectation] = getattr(gxe, self.kind)
        return build(**self.arguments, description=self.description, meta={"name": self.name})


def rules_for(name: str, settings: LakeSettings | None = None) -> tuple[Rule, ...]:
    """Return the rules of a message type, by default the common ones."""
    chosen = settings or LakeSettings()
    own = _OWN.get(name)
    return (*_every_message(chosen), *(own(chosen) if own else ()), *_ADDED.get(name, {}).values())


def register_rule(name: str, rule: Rule) -> Rule:
    """Add an expectation to a message type.

    It may use the numeric columns of the message and the columns of `ValidationFrameBuilder`.

    Raises:
        ValueError: the type has another rule of this name.
    """
    taken = {known.name: known for known in rules_for(name)}.get(rule.name, rule)
    if taken != rule:
        raise ValueError(f"message type {name!r} has another rule {rule.name!r} already")
    _ADDED.setdefault(name, {})[rule.name] = rule
    return rule


def _every_message(settings: LakeSettings) -> Iterator[Rule]:
    yield Rule(
        ROW_COUNT, "a batch has messages", "ExpectTableRowCountToBeBetween", {"min_value": 1}, severity="warn"
    )
    yield _refusing(
        "readable", "the payload is one JSON object with values of the right types", _null("fault")
    )
    yield _refusing("complete", "no required field is missing or null", _null("missing"))
    yield _refusing("utc_times", "times are ISO-8601 in UTC", _true("utc_times"), "last_updated")
    yield _refusing(
        "exchange_form",
        "the exchange is lower-case letters, digits, '.', '_' and '-'",
        _true("exchange_form"),
        "exchange_id",
    )
    yield _refusing(
        "plausible_time",
        "every time lies between 2009 and 2100",
        _between("outside_ms", max_value=0),
        "last_updated",
    )
    yield _warning(
        "monotone_times",
        f"the event time of a series steps back by at most {settings.step_back_tolerance_ms} ms",
        _between("step_ms", min_value=-settings.step_back_tolerance_ms),
        "last_updated",
    )
    yield _warning(
        "clock_skew",
        f"no time is more than {settings.clock_tolerance_ms} ms ahead of its receipt, but for the "
        "measured skew of the exchange's clock",
        _between("ahead_ms", max_value=settings.clock_tolerance_ms),
        "last_updated",
    )
    yield _warning(
        "no_jump",
        f"the value steps by at most {settings.jump_deviations:g} robust deviations of its series",
        _between("deviations", max_value=settings.jump_deviations),
    )


def _price(settings: LakeSettings) -> Iterator[Rule]:
    yield from _prices(settings, "usd_price")
    yield _quantities("volume_24h", "market_cap")
    yield _symbol()


def _level1(settings: LakeSettings) -> Iterator[Rule]:
    yield from _prices(settings, "best_bid", "best_ask")
    yield _refusing(
        "bid_at_most_ask", "the bid is at most the ask", _pair("best_ask", "best_bid"), "best_bid", "best_ask"
    )
    yield _sizes("bid_size", "ask_size")
    yield _symbol()


def _ohlcv(settings: LakeSettings) -> Iterator[Rule]:
    yield from _prices(settings, "open_price", "high_price", "low_price", "close_price")
    for low, high in (("low", "open"), ("low", "close"), ("open", "high"), ("close", "high")):
        columns = f"{low}_price", f"{high}_price"
        yield _refusing(
            f"{low}_at_most_{high}", f"the {low} is at most the {high}", _pair(*reversed(columns)), *columns
        )
    yield _quantities("volume")
    yield _refusing(
        "close_after_open",
        "a candle closes after it opens",
        _between("length_ms", min_value=0, strict_min=True),
        "open_time",
        "close_time",
    )
    yield _warning(
        "no_gap",
        "no candle of a series is missing",
        _between("gap_ms", max_value=0),
        "open_time",
        "timeframe",
    )
    yield _symbol()


def _analytics(_: LakeSettings) -> Iterator[Rule]:
    yield _quantities("total_market_cap", "total_volume")
    yield _warning(
        "dominance_in_per_cent",
        "a dominance lies between 0 and 100",
        _between("btc_dominance", min_value=0, max_value=100),
        "btc_dominance",
    )


def _trade(settings: LakeSettings) -> Iterator[Rule]:
    yield from _prices(settings, "trade_price")
    yield _sizes("size")
    yield _side()
    yield _symbol()


def _book(settings: LakeSettings) -> Iterator[Rule]:
    yield from _prices(settings)
    yield _sizes()
    yield _refusing(
        "levels_sorted", "bids fall and asks rise from level to level", _true("levels_sorted"), "sequence"
    )
    yield _refusing("bid_at_most_ask", "the best bid is at most the best ask", _pair("best_ask", "best_bid"))
    yield _refusing(
        "levels_within_depth",
        "no side has more levels than the depth",
        _between("levels_beyond", max_value=0),
        "depth",
    )
    yield _symbol()


def _derivative_ticker(settings: LakeSettings) -> Iterator[Rule]:
    yield from _prices(settings, "mark_price", "index_price", "last_price")
    yield _quantities("open_interest")
    yield _warning(
        "funding_rate_is_fraction",
        "the funding rate lies between -1 and 1",
        _between("funding_rate", min_value=-1, max_value=1),
        "funding_rate",
    )
    yield _symbol()


def _liquidation(settings: LakeSettings) -> Iterator[Rule]:
    yield from _prices(settings, "liquidation_price")
    yield _sizes("size")
    yield _side()
    yield _symbol()


_OWN: Final[dict[str, Callable[[LakeSettings], Iterator[Rule]]]] = {
    "price": _price,
    "level1": _level1,
    "ohlcv": _ohlcv,
    "analytics": _analytics,
    "trade": _trade,
    "book": _book,
    "derivativeticker": _derivative_ticker,
    "liquidation": _liquidation,
}

_ADDED: Final[dict[str, dict[str, Rule]]] = {}
"""Rules of plugins, by message type and name."""

_Asked = tuple[str, dict[str, Any]]


def _prices(settings: LakeSettings, *columns: str) -> Iterator[Rule]:
    allowed = f"prices have at most {PRICE_DECIMALS} decimals on the wire"
    if not settings.strict_prices:
        allowed += (
            f", or {SIGNIFICANT_DIGITS} significant digits where eight decimals would change the price by "
            "more than 1e-6 of itself"
        )
    yield _refusing(
        "price_precision",
        allowed,
        _between("decimals_beyond", max_value=0),
        *columns,
    )
    yield _refusing(
        "prices_positive",
        "prices are above zero",
        _between("lowest_price", min_value=0, strict_min=True),
        *columns,
    )


def _quantities(*columns: str) -> Rule:
    asked = _between("smallest_quantity", min_value=0)
    return _refusing("quantities_not_negative", "volumes and caps are not negative", asked, *columns)


def _sizes(*columns: str) -> Rule:
    asked = _between("smallest_size", min_value=0, strict_min=True)
    return _refusing("sizes_positive", "sizes are above zero", asked, *columns)


def _side() -> Rule:
    return _refusing("side_form", "the side is buy or sell", _true("side_form"), "side")


def _symbol() -> Rule:
    return _warning(
        "symbol_form", "the symbol is BASE/QUOTE or BASE/QUOTE:SETTLE", _true("symbol_form"), "symbol"
    )


def _refusing(name: str, description: str, asked: _Asked, *columns: str) -> Rule:
    return Rule(name, description, *asked, columns, "error", refuses_rows=True)


def _warning(name: str, description: str, asked: _Asked, *columns: str) -> Rule:
    return Rule(name, description, *asked, columns)


def _between(column: str, **bounds: Any) -> _Asked:
    return "ExpectColumnValuesToBeBetween", {"column": column, **bounds}


def _true(column: str) -> _Asked:
    return "ExpectColumnValuesToBeInSet", {"column": column, "value_set": [True]}


def _null(column: str) -> _Asked:
    return "ExpectColumnValuesToBeNull", {"column": column}


def _pair(larger: str, smaller: str) -> _Asked:
    return "ExpectColumnPairValuesAToBeGreaterThanB", {
        "column_A": larger,
        "column_B": smaller,
        "or_equal": True,
        "ignore_row_if": "either_value_is_missing",
    }
