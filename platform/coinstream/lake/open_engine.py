"""Open the configured engine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from coinstream.lake.engines import EmbeddedEngine, Engine
from coinstream.lake.validation import ValidatorFactory
from coinstream.settings import BrokerSettings, LakeSettings


@contextmanager
def open_engine(
    settings: LakeSettings, brokers: BrokerSettings, make_validator: ValidatorFactory
) -> Iterator[Engine]:
    """Open the engine for the block, and close what it opened.

    Raises:
        LakeError: it is not installed, or cannot be used with this catalog and warehouse.
    """
    if settings.engine == "embedded":
        yield EmbeddedEngine(make_validator)
        return
    # Imported here: Ray is an extra, and its import takes seconds.
    from coinstream.lake.ray_cluster import connect
    from coinstream.lake.ray_engine import RayEngine

    with connect(settings) as cluster:
        yield RayEngine(cluster, brokers, settings, make_validator)
