"""Define the settings of one feed of `feeds.yaml`, by its source."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from coinstream.feeds.exchanges import adapters
from coinstream.feeds.exchanges.book_state import BOOK_LIMITS, BookLimits
from coinstream.feeds.live.base import Timeouts
from coinstream.text import did_you_mean

Symbol = Annotated[str, AfterValidator(str.upper), Field(pattern=r"^[^/\s]+/[^/\s:]+(:[^/\s]+)?$")]
"""A unified symbol; those of every exchange are in upper case."""
MessageName = Literal["level1", "price", "ohlcv", "trade", "book", "derivativeticker", "liquidation"]
Shards = Annotated[int, Field(ge=1, le=1000)]
"""Number of shards of a feed, each of which is a feed with some of the symbols."""
_TIMEOUTS: Final = AliasChoices("timeouts", "patience")
"""`patience` is the deprecated name of releases before 0.2."""


class _Feed(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    description: str = ""


class _BookFeed(_Feed):
    """Settings of books: at most one per symbol and `book_interval_ms`, of `book_depth` levels."""

    book_interval_ms: Annotated[float, Field(ge=0, le=3_600_000)] = BOOK_LIMITS.interval_ms
    book_depth: Annotated[int, Field(ge=1, le=1000)] = BOOK_LIMITS.depth

    @property
    def book_limits(self) -> BookLimits:
        """Return the limits of books."""
        return BookLimits(self.book_interval_ms, self.book_depth)


class ReplaySpec(_BookFeed):
    """Recorded sessions of one exchange. A file without a folder is one of the packaged samples."""

    source: Literal["replay"]
    files: Annotated[tuple[str, ...], Field(min_length=1)]
    exchange: str


class DirectSpec(_BookFeed):
    """An exchange read through its adapter."""

    source: Literal["direct"]
    exchange: str
    symbols: Annotated[tuple[Symbol, ...], Field(min_length=1)]
    types: Annotated[tuple[MessageName, ...], Field(min_length=1)] = ("level1", "price")
    ws_url: str | None = None
    rest_url: str | None = None
    shards: Shards = 1
    timeouts: Timeouts = Field(Timeouts(), validation_alias=_TIMEOUTS)

    @field_validator("exchange")
    @classmethod
    def _known(cls, value: str) -> str:
        known = adapters()
        if value not in known:
            raise ValueError(f"unknown exchange {value!r}; {did_you_mean(value, known)} Or use source: ccxt")
        if not known[value].live:
            raise ValueError(f"{value} is read from recordings only")
        return value

    @model_validator(mode="after")
    def _has_types(self) -> Self:
        channels = adapters()[self.exchange].channels
        known = {kind for channel in channels for kind in channel.types}
        if strange := set(self.types) - known:
            raise ValueError(
                f"{self.exchange} has no {', '.join(sorted(strange))}; it has {', '.join(sorted(known))}"
            )
        return self


class CcxtSpec(_BookFeed):
    """An exchange read through ccxt. `${NAME}` in `options` of its client is read from the environment."""

    source: Literal["ccxt"]
    exchange: str
    symbols: Annotated[tuple[Symbol, ...], Field(min_length=1)]
    types: Annotated[tuple[Literal["level1", "price", "ohlcv", "trade", "book"], ...], Field(min_length=1)]
    timeframe: str = "1m"
    options: dict[str, Any] = {}
    shards: Shards = 1
    timeouts: Timeouts = Field(Timeouts(), validation_alias=_TIMEOUTS)


class SimulatedSpec(_Feed):
    """The simulated exchange, started with the feed, or the one that runs at `url`."""

    source: Literal["simulated"]
    exchange: Literal["binance", "kraken"] = "binance"
    symbols: Annotated[tuple[Symbol, ...], Field(min_length=1)]
    types: Annotated[tuple[Literal["level1", "price"], ...], Field(min_length=1)] = ("level1", "price")
    recording: str | None = None
    rate: Annotated[float, Field(gt=0)] = 100.0
    seed: int = 1
    url: str | None = None
    shards: Shards = 1
    timeouts: Timeouts = Field(Timeouts(), validation_alias=_TIMEOUTS)


class CoingeckoSpec(_Feed):
    """Global figures and prices of many coins."""

    source: Literal["coingecko"]
    exchange: Literal["coingecko"] = "coingecko"
    types: Annotated[tuple[Literal["analytics", "price"], ...], Field(min_length=1)] = ("analytics",)
    coins: Annotated[int, Field(ge=1, le=250)] = 100
    url: str | None = None
    key: str | None = None
    timeouts: Timeouts = Field(Timeouts(poll_every_s=60.0), validation_alias=_TIMEOUTS)


FeedSpec = Annotated[
    ReplaySpec | DirectSpec | CcxtSpec | SimulatedSpec | CoingeckoSpec, Field(discriminator="source")
]
