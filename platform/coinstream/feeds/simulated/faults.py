"""What may go wrong at the simulated exchange, settable while it runs."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final

from coinstream.errors import SettingsError
from coinstream.suggestions import did_you_mean

_HALF: Final = 2


@dataclass
class Faults:
    """Fractions are of the data frames sent, 0 to 1.

    Attributes:
        gap: fraction that is left out, so that the numbers have a hole.
        garble: fraction that is cut in half.
        duplicate: fraction sent twice.
        cross: fraction of quotes whose bid is above the ask.
        delay_ms: how long every data frame is held back.
        freeze: connections stay open and answer, but no data comes.
        drop: how many of the coming data frames end in a broken connection instead (it counts down).
        refuse: how many of the coming connections and requests are answered 503 (it counts down).
        rate_limit: how many of the coming connections and requests are answered 429 (it counts down).
        html: REST requests are answered with a page instead of JSON.
        skew_ms: how far the exchange's clock runs ahead of this machine's.
        vanished: symbols that are no longer listed.
    """

    gap: float = 0.0
    garble: float = 0.0
    duplicate: float = 0.0
    cross: float = 0.0
    delay_ms: float = 0.0
    freeze: bool = False
    drop: int = 0
    refuse: int = 0
    rate_limit: int = 0
    html: bool = False
    skew_ms: float = 0.0
    vanished: set[str] = field(default_factory=set)

    def update(self, values: Mapping[str, str]) -> None:
        """Set faults from texts, as a query or a flag gives them: `garble=0.1`, `vanished=BTC/USDT,ETH/USDT`.

        Raises:
            SettingsError: a name is not known or a value does not fit. Names it.
        """
        known = {item.name: getattr(self, item.name) for item in fields(self)}
        for name, text in values.items():
            if name not in known:
                raise SettingsError(f"unknown fault {name!r}; {did_you_mean(name, known)}")
            try:
                setattr(self, name, _parse(text, known[name]))
            except ValueError:
                raise SettingsError(f"fault {name}: {text!r} does not fit") from None

    def as_dict(self) -> dict[str, Any]:
        """All faults by name."""
        return {
            item.name: sorted(value) if isinstance(value := getattr(self, item.name), set) else value
            for item in fields(self)
        }

    @property
    def is_clean(self) -> bool:
        """Whether frames are sent as they are."""
        return not (self.gap or self.garble or self.duplicate)

    def spoil(self, frames: Iterable[bytes], dice: random.Random) -> Iterator[bytes]:
        """The frames with what the fractions do to them."""
        for frame in frames:
            if self.gap and dice.random() < self.gap:
                continue
            if self.garble and dice.random() < self.garble:
                yield frame[: len(frame) // _HALF]
                continue
            yield frame
            if self.duplicate and dice.random() < self.duplicate:
                yield frame


def _parse(text: str, before: Any) -> Any:
    if isinstance(before, bool):
        if text.lower() not in ("0", "1", "true", "false"):
            raise ValueError(text)
        return text.lower() in ("1", "true")
    if isinstance(before, set):
        return {symbol for symbol in text.split(",") if symbol}
    number = type(before)(text)
    if not 0 <= number < float("inf"):
        raise ValueError(text)
    return number
