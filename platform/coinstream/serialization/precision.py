"""Round prices to the decimals of the wire format and count changed prices."""

from __future__ import annotations

from collections import Counter
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Final

from coinstream.messages import PRICE_DECIMALS

MAX_RELATIVE_CHANGE: Final = Decimal("1e-6")
"""Maximum relative change of a price by rounding to eight decimals."""
SIGNIFICANT_DIGITS: Final = 7
"""Minimum significant digits of a price that eight decimals would change by more."""
MAX_DECIMALS: Final = 18
"""Maximum decimals of a price, equal to the scale of the table columns."""

_PLAIN_BELOW: Final = 1e6
_NEAR_TIE: Final = 0.05
_PLAIN_CHANGE: Final = 9e-7
_EXACT: Final = Context(prec=60, rounding=ROUND_HALF_EVEN)
_ALL_WHOLE_ABOVE: Final = 2.0**53


def round_price(price: float, *, strict: bool = False) -> float:
    """Round a price half-even on its shortest decimal text.

    A price is rounded to eight decimals if that changes it by at most one millionth of its value, and always
    with `strict`. A smaller price keeps the decimals of seven significant digits, at most 18.

    Args:
        price: a finite price.
        strict: round every price to eight decimals.

    Returns:
        The rounded price.
    """
    if abs(price) >= _ALL_WHOLE_ABOVE:
        return price
    exact = Decimal(repr(price))
    return float(_to_decimals(exact, PRICE_DECIMALS if strict else decimals_of(exact)))


def decimals_of(exact: Decimal) -> int:
    """Return the number of decimals of a price without `strict`."""
    change = abs(_to_decimals(exact, PRICE_DECIMALS) - exact)
    if change <= abs(exact) * MAX_RELATIVE_CHANGE:
        return PRICE_DECIMALS
    return min(SIGNIFICANT_DIGITS - 1 - exact.adjusted(), MAX_DECIMALS)


class PriceRounder:
    """Rounds prices and counts changed ones by `type.field`.

    Args:
        strict: round every price to eight decimals, even if it loses significant digits.

    Attributes:
        strict: whether every price is rounded to eight decimals.
        rounded: number of prices changed by rounding.
        lossy: number of prices changed by more than one millionth of their value.
    """

    def __init__(self, *, strict: bool = False) -> None:
        self.strict = strict
        self.rounded: Counter[str] = Counter()
        self.lossy: Counter[str] = Counter()

    def round(self, field: str, price: float) -> float:
        """Round a price of the field `type.field` and count it if it changes."""
        if price < _PLAIN_BELOW and abs(price * 1e8 % 1.0 - 0.5) > _NEAR_TIE:
            # Not near a tie, eight decimals of the binary value are those of its text.
            plain = round(price, PRICE_DECIMALS)
            if abs(plain - price) <= price * _PLAIN_CHANGE:
                if plain != price:
                    self.rounded[field] += 1
                return plain
        rounded = round_price(price, strict=self.strict)
        if rounded != price:
            self.rounded[field] += 1
            exact = Decimal(repr(price))
            if abs(Decimal(repr(rounded)) - exact) > exact * MAX_RELATIVE_CHANGE:
                self.lossy[field] += 1
        return rounded


def _to_decimals(exact: Decimal, decimals: int) -> Decimal:
    return exact.quantize(Decimal(1).scaleb(-decimals), context=_EXACT)
