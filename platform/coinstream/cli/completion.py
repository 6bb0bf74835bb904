"""Complete names in the shell without requests to a broker."""

from __future__ import annotations


def feed_names(incomplete: str) -> list[str]:
    """Return the feeds of `feeds.yaml`."""
    from coinstream.feeds.registry import entries

    return _starting(incomplete, list(entries()))


def topic_names(incomplete: str) -> list[str]:
    """Return the topics of the catalogue, including those of configured exchanges."""
    from coinstream.settings import HomeSettings
    from coinstream.topics.catalogue import catalogue

    return _starting(incomplete, [spec.name for spec in catalogue(HomeSettings().exchange_topics)])


def sink_names(incomplete: str) -> list[str]:
    """Return the sinks, including those of plugins."""
    from coinstream.sinks import SINKS

    return _starting(incomplete, list(SINKS))


def _starting(incomplete: str, names: list[str]) -> list[str]:
    return [name for name in sorted(names) if name.startswith(incomplete)]
