"""Let commands choose the engine that does the work of the lake."""

from __future__ import annotations

from contextlib import AbstractContextManager
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from coinstream.lake.engines import Engine
    from coinstream.lake.store import Lake
    from coinstream.settings import BrokerSettings


class Engines(StrEnum):
    """Engines that prepare slices and compute candles."""

    EMBEDDED = "embedded"
    RAY = "ray"


ChosenEngine = Annotated[
    Engines | None,
    typer.Option(help="Engine that does the work. Default: COINSTREAM_LAKE_ENGINE, else embedded."),
]


def engine_of(lake: Lake, brokers: BrokerSettings) -> AbstractContextManager[Engine]:
    """Open the engine of the lake's settings for a block.

    Raises:
        LakeError: as `open_engine`, on entering the block.
    """
    from coinstream.expectations.validator import ExpectationValidator
    from coinstream.lake.open_engine import open_engine

    return open_engine(lake.settings, brokers, ExpectationValidator)
