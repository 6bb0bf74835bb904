"""Instruments of an exchange: which market a name on the wire means, and how its contracts count.

A name such as `ADAEUR` says nothing by itself: only the exchange's own list tells where the base currency
ends. Each adapter reads the list from the exchange's REST reply into `Instrument`s. A live feed requests
the list when it starts; a recording uses the list that ships with the package and the replies it holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Final, Literal

import msgspec

Kind = Literal["spot", "swap", "future", "option", "index", "other"]
"""What an instrument is. `swap` is a perpetual contract; `other` covers combos and strategies."""

DOLLARS: Final = frozenset(
    (
        *("USD", "USDT", "USDC", "FDUSD", "BUSD", "TUSD", "DAI", "USDP", "PAX", "GUSD", "PYUSD", "USDE"),
        *("USD1", "RLUSD", "HUSD", "USDG"),
    )
)
"""Quote currencies that are the US dollar or pegged to it: a trade in them has a `usdPrice`."""


class Instrument(msgspec.Struct, frozen=True, gc=False):
    """One market of an exchange.

    Attributes:
        id: the exchange's own name, as frames carry it.
        symbol: unified as ccxt writes it: `BTC/USDT`, `BTC/USDT:USDT`, `BTC/USD:BTC-240628`,
            `BTC/USD:BTC-240628-50000-C`.
        base: currency that sizes are counted in.
        quote: currency that prices are in.
        kind: see `Kind`.
        settle: currency that a derivative settles in; empty for spot.
        contract_size: what one contract is worth: base currency for a linear contract, quote currency for
            an inverse one. 1 where sizes are in base currency already.
        inverse: whether a contract is worth a fixed amount of the quote currency.
        price_currency: currency of the numbers in frames where it is not the quote (Deribit's and OKX's
            inverse options are priced in the base currency); empty where it is the quote.
        active: whether the exchange trades it now.
    """

    id: str
    symbol: str
    base: str
    quote: str
    kind: Kind = "spot"
    settle: str = ""
    contract_size: float = 1.0
    inverse: bool = False
    price_currency: str = ""
    active: bool = True

    @property
    def is_in_dollars(self) -> bool:
        """Whether its prices are in dollars or a dollar stablecoin."""
        return (self.price_currency or self.quote) in DOLLARS

    def base_size(self, contracts: float, price: float) -> float | None:
        """Return the size in base currency of a number of contracts traded at a price.

        Returns:
            None where an inverse contract has no price to convert with.
        """
        if not self.inverse:
            return contracts * self.contract_size
        return contracts * self.contract_size / price if price > 0 else None


def spot(identity: str, base: str, quote: str, *, active: bool = True) -> Instrument:
    """Return a spot market, with the currencies under their common names (`XBT` is `BTC`)."""
    base, quote = currency(base), currency(quote)
    return Instrument(identity, f"{base}/{quote}", base, quote, active=active)


def derivative(
    identity: str,
    base: str,
    quote: str,
    settle: str,
    *,
    expiry: datetime | None = None,
    strike: str = "",
    option: Literal["", "C", "P"] = "",
    contract_size: float = 1.0,
    inverse: bool = False,
    price_currency: str = "",
    active: bool = True,
) -> Instrument:
    """Return a perpetual contract, a future (`expiry`) or an option (`expiry`, `strike`, `option`).

    Args:
        strike: as text, without trailing zeros (`34000`, `0.55`).
    """
    base, quote, settle = currency(base), currency(quote), currency(settle)
    symbol = f"{base}/{quote}:{settle}"
    kind: Kind = "swap"
    if expiry is not None:
        symbol, kind = f"{symbol}-{expiry:%y%m%d}", "future"
    if option:
        symbol, kind = f"{symbol}-{strike}-{option}", "option"
    return Instrument(
        identity,
        symbol,
        base,
        quote,
        kind,
        settle,
        contract_size,
        inverse,
        currency(price_currency) if price_currency else "",
        active,
    )


_ALIASES: Final = {"XBT": "BTC", "XDG": "DOGE"}


def currency(code: str) -> str:
    """Return the common upper-case name of a currency. Adapters translate their own names before."""
    upper = code.upper()
    return _ALIASES.get(upper, upper)


class InstrumentList:
    """The instruments of one exchange, by the name in frames and by unified symbol.

    Names are looked up as they are, then in upper case, since some exchanges write `btcusdt` in frames and
    `BTCUSDT` in their list.
    """

    def __init__(self, instruments: Iterable[Instrument] = ()) -> None:
        self._by_id: dict[str, Instrument] = {}
        self._by_symbol: dict[str, Instrument] = {}
        self._quotes: frozenset[str] | None = None
        self.add(instruments)

    @property
    def quotes(self) -> frozenset[str]:
        """Currencies that the exchange quotes prices in."""
        if self._quotes is None:
            self._quotes = frozenset(instrument.quote for instrument in self)
        return self._quotes

    @property
    def is_spot(self) -> bool:
        """Return whether every instrument is a spot market; True for an empty list."""
        return all(instrument.kind == "spot" for instrument in self)

    def add(self, instruments: Iterable[Instrument]) -> None:
        """Add instruments; a newer entry of the same name replaces the older one."""
        self._quotes = None
        for instrument in instruments:
            self._by_id[instrument.id] = instrument
            self._by_id.setdefault(instrument.id.upper(), instrument)
            self._by_symbol[instrument.symbol] = instrument

    def get(self, identity: str) -> Instrument | None:
        """Return the instrument that a frame names, or None where the list does not have it."""
        found = self._by_id.get(identity)
        return found if found is not None else self._by_id.get(identity.upper())

    def of_symbol(self, symbol: str) -> Instrument | None:
        """Return the instrument of a unified symbol, or None."""
        return self._by_symbol.get(symbol)

    def __iter__(self) -> Iterator[Instrument]:
        """Iterate over the instruments, one entry per unified symbol."""
        return iter(self._by_symbol.values())

    def __len__(self) -> int:
        """Count the instruments."""
        return len(self._by_symbol)
