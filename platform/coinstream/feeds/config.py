"""Read `feeds.yaml`: the packaged file, overridden by the user's."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from coinstream.errors import SettingsError
from coinstream.feeds.feed_specs import CoingeckoSpec, FeedSpec, ReplaySpec, SimulatedSpec
from coinstream.routing import Shard

USER_FILE: Final = "COINSTREAM_FEEDS"
"""Environment variable with the path of the user's file."""

_MAX_BYTES: Final = 4_000_000
_MAX_DEPTH: Final = 20


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
    files = [read_feeds_file(Path(str(resources.files("coinstream.feeds") / "feeds.yaml")))]
    if named := os.environ.get(USER_FILE):
        files.append(read_feeds_file(Path(named)))
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


def read_feeds_file(path: Path) -> FeedsFile:
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
