"""Select the topics that land in a table: the general topic and those of known exchanges."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from coinstream.settings import LakeSettings
from coinstream.topics.catalogue import DEAD_LETTER_SUFFIX


@dataclass(frozen=True)
class TopicSelection:
    """The topics of one table.

    Attributes:
        landed: topics that land in the table, sorted.
        ignored: topics with the prefix of the general topic but of no known exchange.
    """

    landed: tuple[str, ...]
    ignored: tuple[str, ...]


def select_topics(topic: str, existing: Iterable[str], exchanges: Iterable[str]) -> TopicSelection:
    """Select the general topic and `{topic}-{exchange}` of each known exchange, as far as they exist.

    Any other topic with the prefix, such as the target of a replay, holds copies of messages
    that the table already has.
    """
    wanted = {topic, *(f"{topic}-{exchange}" for exchange in exchanges)}
    present = {name for name in existing if not name.endswith(DEAD_LETTER_SUFFIX)}
    landed = wanted & present
    similar = {name for name in present if name.startswith(topic + "-")}
    return TopicSelection(tuple(sorted(landed)), tuple(sorted(similar - landed)))


def known_exchanges(settings: LakeSettings) -> frozenset[str]:
    """Return the exchanges whose topics land.

    These are the exchanges of feeds, of parsers and of ccxt, and those named in
    `COINSTREAM_EXCHANGE_TOPICS` and `COINSTREAM_LAKE_EXCHANGES`.

    Raises:
        SettingsError: `feeds.yaml` cannot be read.
    """
    # Imported here: reading the feeds takes time that `coinstream --help` does not have.
    from coinstream.feeds.registry import exchange_names

    return exchange_names() | frozenset(settings.exchanges)
