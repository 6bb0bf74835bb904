"""Define the market data messages: one class per type, used everywhere.

On the wire names are camelCase and absent optional fields are omitted; in Python names are
snake_case. Times are aware datetimes. Prices are in the quote currency of the symbol and sizes in its
base currency, except `Price`, which is in US dollars.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Union, get_args, get_origin, get_type_hints

import msgspec

from coinstream.errors import MessageError, UnroutableError

PRICE_DECIMALS: Final = 8
"""Decimals of a price on the wire."""

Text = Annotated[str, msgspec.Meta(min_length=1)]
Quantity = Annotated[float, msgspec.Meta(ge=0)]
PriceValue = Annotated[float, msgspec.Meta(ge=0, extra={"price": True})]
"""A price: finite, not negative, rounded half-even to eight decimals when serialized."""
Moment = Annotated[datetime, msgspec.Meta(tz=True)]
Level = tuple[PriceValue, Quantity]
"""One level of an order book: price and size."""
Side = Literal["buy", "sell"]
"""The side of the taker."""


class Message(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, gc=False):
    """Base of all messages: the source and the time of the last update. Subclasses declare the fields."""

    if TYPE_CHECKING:  # Declared by each subclass, which chooses the order of its fields.

        @property
        def exchange_id(self) -> str:
            """Return the exchange, or the source of analytics."""

        @property
        def last_updated(self) -> datetime:
            """Return the receipt time, which is also the record's timestamp."""


class Price(Message, forbid_unknown_fields=True, frozen=True):
    """Last price of a symbol in US dollars or a dollar-pegged quote currency."""

    exchange_id: Text
    symbol: Text
    usd_price: PriceValue
    last_updated: Moment
    volume_24h: Quantity | None = msgspec.field(default=None, name="volume24h")
    price_change_24h: float | None = msgspec.field(default=None, name="priceChange24h")
    market_cap: Quantity | None = None


class Ohlcv(Message, forbid_unknown_fields=True, frozen=True):
    """Candle over `[open_time, close_time)`; `volume` is in the base currency."""

    exchange_id: Text
    symbol: Text
    timeframe: Text
    open_time: Moment
    close_time: Moment
    open_price: PriceValue
    high_price: PriceValue
    low_price: PriceValue
    close_price: PriceValue
    volume: Quantity
    last_updated: Moment


class Analytics(Message, forbid_unknown_fields=True, frozen=True):
    """Figures of the whole market. `exchange_id` is the source; dominances are in per cent."""

    exchange_id: Text
    total_market_cap: Quantity
    total_volume: Quantity
    btc_dominance: Quantity
    last_updated: Moment
    eth_dominance: Quantity | None = None
    active_cryptocurrencies: Annotated[int, msgspec.Meta(ge=0)] | None = None


class Level1(Message, forbid_unknown_fields=True, frozen=True):
    """Best bid and ask with their sizes. `timestamp` is the exchange's time, `last_updated` the receipt."""

    exchange_id: Text
    symbol: Text
    best_bid: PriceValue
    best_ask: PriceValue
    bid_size: Quantity
    ask_size: Quantity
    timestamp: Moment
    last_updated: Moment


class Trade(Message, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """Trade. `side` is the side of the taker; `timestamp` is the exchange's time."""

    exchange_id: Text
    symbol: Text
    trade_id: Text | None = None
    trade_price: PriceValue
    size: Quantity
    side: Side | None = None
    timestamp: Moment
    last_updated: Moment


class Book(Message, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """Top of an order book: at most `depth` levels per side, best first."""

    exchange_id: Text
    symbol: Text
    bids: list[Level]
    asks: list[Level]
    depth: Annotated[int, msgspec.Meta(ge=1)]
    sequence: Annotated[int, msgspec.Meta(ge=0)] | None = None
    timestamp: Moment
    last_updated: Moment


class DerivativeTicker(Message, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """State of a derivative. `funding_rate` is a fraction; `open_interest` is in the base currency."""

    exchange_id: Text
    symbol: Text
    mark_price: PriceValue
    index_price: PriceValue | None = None
    last_price: PriceValue | None = None
    funding_rate: float | None = None
    next_funding_time: Moment | None = None
    open_interest: Quantity | None = None
    timestamp: Moment
    last_updated: Moment


class Liquidation(Message, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """Forced close of a position. `side` is the side of the liquidation order."""

    exchange_id: Text
    symbol: Text
    order_id: Text | None = None
    liquidation_price: PriceValue
    size: Quantity
    side: Side
    timestamp: Moment
    last_updated: Moment


@dataclass(frozen=True, slots=True)
class MessageType:
    """A registered message type.

    Attributes:
        name: name in configuration, tables and metrics.
        cls: message class.
        discriminator: wire field that only this type has.
        topic: general topic of the type.
    """

    name: str
    cls: type[Message]
    discriminator: str
    topic: str


MESSAGE_TYPES: dict[str, MessageType] = {}
"""All message types by name. Add one with `register`."""

_BY_CLASS: dict[type[Message], MessageType] = {}


def register(kind: MessageType) -> MessageType:
    """Register a message type with serialization, routing, feeds and tables.

    Raises:
        ValueError: another type has the name, the discriminator or the class.
    """
    for known in MESSAGE_TYPES.values():
        if known != kind and (
            known.name == kind.name or known.discriminator == kind.discriminator or known.cls is kind.cls
        ):
            raise ValueError(f"message type {kind.name!r} clashes with {known.name!r}")
    MESSAGE_TYPES[kind.name] = kind
    _BY_CLASS[kind.cls] = kind
    return kind


PRICE: Final = register(MessageType("price", Price, "usdPrice", "crypto-prices"))
OHLCV: Final = register(MessageType("ohlcv", Ohlcv, "openPrice", "crypto-ohlcv"))
ANALYTICS: Final = register(MessageType("analytics", Analytics, "totalMarketCap", "crypto-analytics"))
LEVEL1: Final = register(MessageType("level1", Level1, "bestBid", "crypto-level1"))
TRADE: Final = register(MessageType("trade", Trade, "tradePrice", "crypto-trades"))
BOOK: Final = register(MessageType("book", Book, "bids", "crypto-book"))
DERIVATIVE_TICKER: Final = register(
    MessageType("derivativeticker", DerivativeTicker, "markPrice", "crypto-derivatives")
)
LIQUIDATION: Final = register(
    MessageType("liquidation", Liquidation, "liquidationPrice", "crypto-liquidations")
)


def type_of(message: Message) -> MessageType:
    """Return the type of a message object.

    Raises:
        UnroutableError: its class is not registered.
    """
    kind = _BY_CLASS.get(type(message))
    if kind is None:
        raise UnroutableError(f"no message type is registered for {type(message).__name__}")
    return kind


def type_named(name: str) -> MessageType:
    """Return the message type of a name, for example `price` or `level1`.

    Raises:
        UnroutableError: no type has this name.
    """
    kind = MESSAGE_TYPES.get(name)
    if kind is None:
        raise UnroutableError(f"unknown message type {name!r}; known: {', '.join(MESSAGE_TYPES)}")
    return kind


def classify(fields: Iterable[str]) -> MessageType:
    """Return the message type of wire fields.

    Raises:
        UnroutableError: the fields contain no discriminator; the message lists them.
    """
    seen = set(fields)
    for kind in MESSAGE_TYPES.values():
        if kind.discriminator in seen:
            return kind
    wanted = ", ".join(kind.discriminator for kind in MESSAGE_TYPES.values())
    raise UnroutableError(
        f"unknown message type: the fields are {sorted(seen)[:30]}; one of {wanted} is required"
    )


def type_for_topic(topic: str) -> MessageType | None:
    """Return the message type of a topic by its name: `crypto-prices` or `crypto-prices-binance`."""
    for kind in MESSAGE_TYPES.values():
        if topic == kind.topic or topic.startswith(kind.topic + "-"):
            return kind
    return None


def from_wire(fields: Mapping[str, Any]) -> tuple[Message, dict[str, Any]]:
    """Build a message from wire names and values.

    Returns:
        The message, and the fields that its type does not have.

    Raises:
        UnroutableError: the fields match no message type.
        MessageError: a field is missing or has an invalid value.
    """
    kind = classify(fields)
    known = {field.encode_name for field in msgspec.structs.fields(kind.cls)}
    core = {name: value for name, value in fields.items() if name in known and value is not None}
    unknown = {name: value for name, value in fields.items() if name not in known}
    try:
        return msgspec.convert(core, kind.cls), unknown
    except msgspec.ValidationError as error:
        raise MessageError(f"bad {kind.name} message: {error}") from None


def price_fields(cls: type[Message]) -> tuple[str, ...]:
    """Return the Python names of the fields that hold one price."""
    return tuple(name for name, hint in get_type_hints(cls, include_extras=True).items() if _is_price(hint))


def level_fields(cls: type[Message]) -> tuple[str, ...]:
    """Return the Python names of the fields that hold a list of book levels."""
    hints = get_type_hints(cls, include_extras=True)
    return tuple(
        name for name, hint in hints.items() if get_origin(hint) is list and get_args(hint) == (Level,)
    )


def _is_price(hint: Any) -> bool:
    if get_origin(hint) in (Union, UnionType):
        return any(_is_price(part) for part in get_args(hint))
    return any(isinstance(part, msgspec.Meta) and (part.extra or {}).get("price") for part in get_args(hint))
