"""The four messages: one definition each, used everywhere.

On the wire names are camelCase and absent optional fields are left out; in Python names are
snake_case. Times are aware datetimes. Prices are quoted in the symbol's quote currency.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Final, get_args, get_type_hints

import msgspec

from coinstream.errors import MessageError, UnroutableError

PRICE_DECIMALS: Final = 8
"""Decimals a price keeps on the wire."""

Text = Annotated[str, msgspec.Meta(min_length=1)]
Quantity = Annotated[float, msgspec.Meta(ge=0)]
PriceValue = Annotated[float, msgspec.Meta(ge=0, extra={"price": True})]
"""A price: finite, never negative, rounded half-even to eight decimals when written."""
Moment = Annotated[datetime, msgspec.Meta(tz=True)]


class Message(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, gc=False):
    """The base of all messages: who said it and when it was last true. Subclasses add their fields."""

    if TYPE_CHECKING:  # the fields' order is the subclass's to choose, so they stand there

        @property
        def exchange_id(self) -> str:
            """The exchange, or the source of analytics."""

        @property
        def last_updated(self) -> datetime:
            """When the source or the platform last saw it so; the record's timestamp."""


class Price(Message, forbid_unknown_fields=True, frozen=True):
    """The last price of a symbol in US dollars (or a dollar-pegged quote currency)."""

    exchange_id: Text
    symbol: Text
    usd_price: PriceValue
    last_updated: Moment
    volume_24h: Quantity | None = msgspec.field(default=None, name="volume24h")
    price_change_24h: float | None = msgspec.field(default=None, name="priceChange24h")
    market_cap: Quantity | None = None


class Ohlcv(Message, forbid_unknown_fields=True, frozen=True):
    """One candle: prices over `[open_time, close_time)` and the base volume traded in it."""

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
    """The whole market at one time. `exchange_id` is the source; dominances are in per cent."""

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


@dataclass(frozen=True, slots=True)
class MessageType:
    """What makes a kind of message: its name, its class, the wire field that tells it, its topic."""

    name: str
    cls: type[Message]
    told_by: str
    topic: str


MESSAGE_TYPES: dict[str, MessageType] = {}
"""All kinds of message by name. Add one with `register`."""

_BY_CLASS: dict[type[Message], MessageType] = {}


def register(kind: MessageType) -> MessageType:
    """Make a kind of message known to codec, routing and feeds.

    Raises:
        ValueError: the name, the telling field or the class is taken by another kind.
    """
    for known in MESSAGE_TYPES.values():
        if known != kind and (
            known.name == kind.name or known.told_by == kind.told_by or known.cls is kind.cls
        ):
            raise ValueError(f"message type {kind.name!r} clashes with {known.name!r}")
    MESSAGE_TYPES[kind.name] = kind
    _BY_CLASS[kind.cls] = kind
    return kind


PRICE: Final = register(MessageType("price", Price, "usdPrice", "crypto-prices"))
OHLCV: Final = register(MessageType("ohlcv", Ohlcv, "openPrice", "crypto-ohlcv"))
ANALYTICS: Final = register(MessageType("analytics", Analytics, "totalMarketCap", "crypto-analytics"))
LEVEL1: Final = register(MessageType("level1", Level1, "bestBid", "crypto-level1"))


def type_of(message: Message) -> MessageType:
    """The kind of a message object.

    Raises:
        UnroutableError: its class was never registered.
    """
    kind = _BY_CLASS.get(type(message))
    if kind is None:
        raise UnroutableError(f"no message type is registered for {type(message).__name__}")
    return kind


def type_named(name: str) -> MessageType:
    """The kind of that name (`price`, `ohlcv`, `analytics`, `level1`).

    Raises:
        UnroutableError: there is none.
    """
    kind = MESSAGE_TYPES.get(name)
    if kind is None:
        raise UnroutableError(f"unknown message type {name!r}; known: {', '.join(MESSAGE_TYPES)}")
    return kind


def classify(fields: Iterable[str]) -> MessageType:
    """The kind of message that has these wire fields.

    Raises:
        UnroutableError: none of the telling fields is among them. Names the fields seen.
    """
    seen = set(fields)
    for kind in MESSAGE_TYPES.values():
        if kind.told_by in seen:
            return kind
    wanted = ", ".join(kind.told_by for kind in MESSAGE_TYPES.values())
    raise UnroutableError(
        f"not a known message: fields seen are {sorted(seen)[:30]}; one of {wanted} must be there"
    )


def type_for_topic(topic: str) -> MessageType | None:
    """The kind that a topic carries, by its name: `crypto-prices` or `crypto-prices-binance`."""
    for kind in MESSAGE_TYPES.values():
        if topic == kind.topic or topic.startswith(kind.topic + "-"):
            return kind
    return None


def from_wire(fields: Mapping[str, Any]) -> tuple[Message, dict[str, Any]]:
    """Build a message from wire names and values; return it with the fields it does not know.

    Raises:
        UnroutableError: the fields fit no kind of message.
        MessageError: a field is missing or has a value that it may not have.
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
    """The Python names of the fields that hold prices."""
    return tuple(name for name, hint in get_type_hints(cls, include_extras=True).items() if _is_price(hint))


def _is_price(hint: Any) -> bool:
    for part in get_args(hint):
        if isinstance(part, msgspec.Meta) and (part.extra or {}).get("price"):
            return True
        if _is_price(part):
            return True
    return False
