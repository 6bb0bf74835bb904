"""Map an exchange's instrument names to unified symbols and contract sizes.

A name such as `ADAEUR` is ambiguous without the exchange's instrument list. Each adapter converts the list
from the exchange's REST reply into `Instrument`s. A live feed requests the list at start; a recording uses
the packaged list and the REST replies in the recording.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Final, Literal

import msgspec

Kind = Literal["spot", "swap", "future", "option", "index", "other"]
"""Kind of instrument. `swap` is a perpetual contract; `other` covers combos and strategies."""

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
        id: the exchange's own name, as in frames.
        symbol: unified symbol in ccxt's form: `BTC/USDT`, `BTC/USDT:USDT`, `BTC/USD:BTC-240628`,
            `BTC/USD:BTC-240628-50000-C`.
        base: currency of sizes.
        quote: currency of prices.
        kind: see `Kind`.
        settle: settlement currency of a derivative; empty for spot.
        contract_size: size of one contract, in base currency if linear, in quote currency if inverse; 1
            if the exchange reports sizes in base currency.
        inverse: whether a contract is a fixed amount of the quote currency.
        price_currency: currency of prices in frames if it differs from the quote (inverse options of
            Deribit and OKX are priced in the base currency); else empty.
        active: whether the instrument is currently traded.
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
        """Return whether prices are in US dollars or a dollar stablecoin."""
        return (self.price_currency or self.quote) in DOLLARS

    def base_size(self, contracts: float, price: float) -> float | None:
        """Convert a number of contracts at a price to a size in base currency.

        Returns:
            The size, or None if the contract is inverse and the price is missing.
        """
        if not self.inverse:
            return contracts * self.contract_size
        return contracts * self.contract_size / price if price > 0 else None


def spot(identity: str, base: str, quote: str, *, active: bool = True) -> Instrument:
    """Return a spot market with normalized currency names (`XBT` becomes `BTC`)."""
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
    """Return the common upper-case name of a currency. Adapters translate exchange-specific names first."""
    upper = code.upper()
    return _ALIASES.get(upper, upper)


class InstrumentList:
    """The instruments of one exchange, by the name in frames and by unified symbol.

    Lookups try the exact name, then upper case: some exchanges write `btcusdt` in frames and `BTCUSDT` in
    their list.

    Attributes:
        by_id: instruments by the exchange's names, for lookups of exact names on a hot path. Read only.
    """

    def __init__(self, instruments: Iterable[Instrument] = ()) -> None:
        self.by_id: dict[str, Instrument] = {}
        self._by_symbol: dict[str, Instrument] = {}
        self._quotes: frozenset[str] | None = None
        self.add(instruments)

    @property
    def quotes(self) -> frozenset[str]:
        """Return the quote currencies of the exchange."""
        if self._quotes is None:
            self._quotes = frozenset(instrument.quote for instrument in self)
        return self._quotes

    @property
    def is_spot(self) -> bool:
        """Return whether every instrument is a spot market; True for an empty list."""
        return all(instrument.kind == "spot" for instrument in self)

    def add(self, instruments: Iterable[Instrument]) -> None:
        """Add instruments; an entry of the same name is replaced."""
        self._quotes = None
        for instrument in instruments:
            self.by_id[instrument.id] = instrument
            self.by_id.setdefault(instrument.id.upper(), instrument)
            self._by_symbol[instrument.symbol] = instrument

    def get(self, identity: str) -> Instrument | None:
        """Return the instrument with an exchange's name, or None if it is not listed."""
        found = self.by_id.get(identity)
        return found if found is not None else self.by_id.get(identity.upper())

    def of_symbol(self, symbol: str) -> Instrument | None:
        """Return the instrument of a unified symbol, or None if it is not listed."""
        return self._by_symbol.get(symbol)

    def __iter__(self) -> Iterator[Instrument]:
        """Iterate over the instruments, one entry per unified symbol."""
        return iter(self._by_symbol.values())

    def __len__(self) -> int:
        """Count the instruments."""
        return len(self._by_symbol)
