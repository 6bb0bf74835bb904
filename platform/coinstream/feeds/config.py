"""Read `feeds.yaml`: the packaged file, overridden by the user's."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

import yaml
from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from coinstream.errors import SettingsError
from coinstream.feeds.exchanges.discovery import adapters
from coinstream.feeds.live.base import Timeouts
from coinstream.routing import Shard
from coinstream.text import did_you_mean

USER_FILE: Final = "COINSTREAM_FEEDS"
"""Environment variable with the path of the user's file."""

Symbol = Annotated[str, AfterValidator(str.upper), Field(pattern=r"^[^/\s]+/[^/\s:]+(:[^/\s]+)?$")]
"""A unified symbol; those of every exchange are in upper case."""
MessageName = Literal["level1", "price", "ohlcv", "trade", "book", "derivativeticker", "liquidation"]
Shards = Annotated[int, Field(ge=1, le=1000)]
"""Number of shards of a feed, each of which is a feed with some of the symbols."""

_MAX_BYTES: Final = 4_000_000
_MAX_DEPTH: Final = 20
_TIMEOUTS: Final = AliasChoices("timeouts", "patience")
"""`patience` is the deprecated name of releases before 0.2."""


class _Feed(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    description: str = ""


class ReplaySpec(_Feed):
    """Recorded sessions of one exchange. A file without a folder is one of the packaged samples."""

    source: Literal["replay"]
    files: Annotated[tuple[str, ...], Field(min_length=1)]
    exchange: str


class DirectSpec(_Feed):
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


class CcxtSpec(_Feed):
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


class FeedsFile(BaseModel):
    """Contents of a `feeds.yaml`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    default: str | None = None
    live: str | None = None
    feeds: dict[str, FeedSpec | None] = {}


class FeedsConfig(BaseModel):
    """Merged configuration. A feed with `shards` is replaced by its shards, whose names are in `parts`."""

    default: str
    live: str
    feeds: dict[str, FeedSpec]
    parts: dict[str, tuple[str, ...]] = {}


def load() -> FeedsConfig:
    """Return the packaged feeds, overridden by the user's.

    Raises:
        SettingsError: a file cannot be read or is invalid; the message names file and line.
    """
    files = [read(Path(str(resources.files("coinstream.feeds") / "feeds.yaml")))]
    if named := os.environ.get(USER_FILE):
        files.append(read(Path(named)))
    merged: dict[str, FeedSpec | None] = {}
    for file in files:
        merged |= file.feeds
    feeds, parts = _in_parts({name: spec for name, spec in merged.items() if spec is not None})
    chosen = {
        word: next(value for file in reversed(files) if (value := getattr(file, word)) is not None)
        for word in ("default", "live")
    }
    for word, name in chosen.items():
        if name in parts:
            raise SettingsError(
                f"feeds: `{word}` names {name!r}, which has shards; use one of {', '.join(parts[name])}"
            )
        if name not in feeds:
            raise SettingsError(
                f"feeds: `{word}` names {name!r}, which is not a feed; feeds: {', '.join(sorted(feeds))}"
            )
    return FeedsConfig.model_construct(feeds=feeds, parts=parts, **chosen)


def part_of(spec: FeedSpec, shard: Shard) -> FeedSpec | None:
    """Return the feed with only the shard's symbols, or None if it has none of them.

    Raises:
        SettingsError: the feed has no symbols to distribute.
    """
    if isinstance(spec, (ReplaySpec, CoingeckoSpec)):
        raise SettingsError(
            f"a feed with source {spec.source} has no list of symbols to distribute to shards"
        )
    symbols = shard.among(spec.symbols)
    if not symbols:
        return None
    fewer: dict[str, Any] = {"symbols": symbols, "shards": 1}
    if spec.description:
        fewer["description"] = f"{spec.description} (shard {shard})"
    if isinstance(spec, SimulatedSpec):
        # The rate is the total of all symbols.
        fewer["rate"] = spec.rate * len(symbols) / len(spec.symbols)
    return spec.model_copy(update=fewer)


def _in_parts(feeds: Mapping[str, FeedSpec]) -> tuple[dict[str, FeedSpec], dict[str, tuple[str, ...]]]:
    """Replace each sharded feed by its shards with symbols; return the names of the shards by feed too."""
    found: dict[str, FeedSpec] = {}
    parts: dict[str, tuple[str, ...]] = {}
    for name, spec in feeds.items():
        count = getattr(spec, "shards", 1)
        if count == 1:
            found[name] = spec
            continue
        dealt = {shard.name(name): part_of(spec, shard) for shard in Shard.all(count)}
        mine = {part: fewer for part, fewer in dealt.items() if fewer is not None}
        found |= mine
        parts[name] = tuple(mine)
    return found, parts


def read(path: Path) -> FeedsFile:
    """Read one file.

    Raises:
        SettingsError: see `load`.
    """
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: cannot be read ({error}); {USER_FILE} names it") from error
    try:
        _refuse_aliases(text, path)
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        _refuse_doubles(root, path)
        return FeedsFile.model_validate(yaml.safe_load(text) or {})
    except yaml.YAMLError as error:
        raise SettingsError(f"{path}: not YAML: {error}") from error
    except ValidationError as error:
        faults = [_explain(path, root, item) for item in error.errors(include_input=False, include_url=False)]
        raise SettingsError("\n".join(dict.fromkeys(faults))) from None


def _explain(path: Path, root: Any, item: Mapping[str, Any]) -> str:
    line, names = _find(root, item["loc"])
    where = ".".join(names) or "the file"
    return f"{path}:{line}: {where}: {item['msg'].removeprefix('Value error, ')}"


def _find(root: Any, location: Sequence[str | int]) -> tuple[int, list[str]]:
    """Return the line of the deepest part of a location in the file, without parts added by pydantic."""
    node, names = root, []
    line = root.start_mark.line + 1 if root is not None else 1
    for part in location:
        if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
            names.append(str(part))
        elif isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if key.value == part:
                    node, line = value, key.start_mark.line + 1
                    names.append(str(part))
                    break
            else:
                # A missing field is reported at the line of its parent.
                if part == location[-1]:
                    names.append(str(part))
    return line, names


def _refuse_aliases(text: str, path: Path) -> None:
    """Refuse deep nesting and aliases, a few lines of which can expand to gigabytes."""
    if len(text) > _MAX_BYTES:
        raise SettingsError(f"{path}: larger than {_MAX_BYTES:,} characters")
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        line = event.start_mark.line + 1 if event.start_mark is not None else 1
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _MAX_DEPTH:
            raise SettingsError(f"{path}:{line}: nested deeper than {_MAX_DEPTH} levels")
        if isinstance(event, yaml.AliasEvent):
            raise SettingsError(f"{path}:{line}: *{event.anchor}: aliases are not read here; write it out")


def _refuse_doubles(node: Any, path: Path) -> None:
    """Refuse duplicate keys, which YAML otherwise accepts by keeping the last one."""
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if key.value in seen:
                raise SettingsError(
                    f"{path}:{line}: {key.value!r} is a duplicate key, first used in line {seen[key.value]}"
                )
            seen[key.value] = line
            _refuse_doubles(value, path)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _refuse_doubles(value, path)
