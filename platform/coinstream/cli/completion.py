"""What the shell completes: names that are known without asking a broker, so that TAB answers at once."""

from __future__ import annotations


def feed_names(incomplete: str) -> list[str]:
    """Return the feeds of `feeds.yaml`."""
    from coinstream.feeds.registry import entries

    return _starting(incomplete, list(entries()))


def topic_names(incomplete: str) -> list[str]:
    """Topics of the catalogue, those of configured exchanges included."""
    from coinstream.settings import HomeSettings
    from coinstream.topics.catalogue import catalogue

    return _starting(incomplete, [spec.name for spec in catalogue(HomeSettings().exchange_topics)])


def sink_names(incomplete: str) -> list[str]:
    """Sinks, those of plugins included."""
    from coinstream.sinks import SINKS

    return _starting(incomplete, list(SINKS))


def _starting(incomplete: str, names: list[str]) -> list[str]:
    return [name for name in sorted(names) if name.startswith(incomplete)]
