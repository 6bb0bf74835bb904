"""Resolve Bitfinex's names: pairs, perpetual contracts and its own codes of currencies."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from coinstream.feeds.instruments import Instrument, derivative, spot

_CURRENCIES: Final = {
    **{"ALG": "ALGO", "AMP": "AMPL", "ATO": "ATOM", "BCHABC": "XEC", "BCHN": "BCH", "DAT": "DATA"},
    **{"DOG": "MDOGE", "DSH": "DASH", "EUS": "EURS", "EUT": "EURT", "IOT": "IOTA", "IQX": "IQ"},
    **{"MNA": "MANA", "PAS": "PASS", "QSH": "QASH", "QTM": "QTUM", "RBT": "RBTC", "SNG": "SNGLS"},
    **{"STJ": "STORJ", "TERRAUST": "USTC", "TSD": "TUSD", "UDC": "USDC", "UST": "USDT", "VSY": "VSYS"},
    **{"WAX": "WAXP", "XCH": "XCHF", "YYW": "YOYOW", "ZBT": "ZB"},
}
"""Common names of the currencies that Bitfinex abbreviates, as ccxt has them."""
_JOINED: Final = 6
_PERPETUAL: Final = "F0"


def read_pairs(reply: Any) -> Iterator[Instrument]:
    """Yield the markets of a `pub:list:pair` reply: `BTCUSD`, `DUSK:USD`, `BTCF0:USTF0`.

    Raises:
        ValueError: the reply is another list.
    """
    (pairs,) = reply
    for pair in pairs:
        found = read_pair(pair)
        if found is None:
            raise ValueError(f"{pair!r} is neither six letters nor BASE:QUOTE")
        yield found


def read_pair(pair: str) -> Instrument | None:
    """Return the market of a pair, or None where its name has another form."""
    base, colon, quote = pair.partition(":")
    if not colon:
        if len(pair) != _JOINED:
            return None
        base, quote = pair[:3], pair[3:]
    if quote.endswith(_PERPETUAL):
        base, quote = base.removesuffix(_PERPETUAL), quote.removesuffix(_PERPETUAL)
        base, quote = _common(base), _common(quote)
        return derivative(f"t{pair}", base, quote, quote)
    return spot(f"t{pair}", _common(base), _common(quote))


def _common(code: str) -> str:
    return _CURRENCIES.get(code, code)


def as_javascript(number: float) -> str:
    """Return a number as JavaScript writes it, which checksums are computed over."""
    if number == int(number) and abs(number) < 1e21:
        return str(int(number))
    text = repr(number)
    mantissa, exponent, power = text.partition("e")
    if not exponent:
        return text
    if abs(number) < 1e-6:
        return f"{mantissa}e-{abs(int(power))}"
    return f"{number:.{len(mantissa.replace('-', '').replace('.', '')) - int(power) - 1}f}"
