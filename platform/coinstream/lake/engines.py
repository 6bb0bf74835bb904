"""Run the preparation of slices: in this process, or on an engine with workers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from coinstream.lake.landed_offsets import LandedOffsets
from coinstream.lake.prepare import prepare
from coinstream.lake.read_plan import ReadPlan
from coinstream.lake.schemas import TableSpec
from coinstream.lake.slices import PreparedFiles, make_slices
from coinstream.lake.topic_reader import TopicReader
from coinstream.lake.validation import BatchValidator, ValidatorFactory
from coinstream.settings import BrokerSettings, LakeSettings

if TYPE_CHECKING:
    from pyiceberg.table import Table


@dataclass(frozen=True)
class Work:
    """What is to be prepared.

    Attributes:
        spec: the message type.
        table: the table as it is now.
        plan: what to read.
        landed: how far the table is.
        reader: reads the topics in this process.
        settings: of the lake.
    """

    spec: TableSpec
    table: Table
    plan: ReadPlan
    landed: LandedOffsets
    reader: TopicReader
    settings: LakeSettings


class Engine(Protocol):
    """Prepares slices. What it yields at a time becomes one commit."""

    def prepare(self, work: Work) -> Iterator[Sequence[PreparedFiles]]:
        """Prepare a plan, and yield prepared files in the order of each partition."""

    def discard(self, stale: Sequence[PreparedFiles]) -> bool:
        """Note that prepared files were stale; return whether to plan again at once."""


def open_engine(
    settings: LakeSettings, brokers: BrokerSettings, spec: TableSpec, make_validator: ValidatorFactory
) -> Engine:
    """Open the engine that the settings name.

    Raises:
        LakeError: it is not installed, or cannot be used with this catalog and warehouse.
    """
    if settings.engine == "ray":
        # Imported here: Ray is an extra, and takes seconds.
        from coinstream.lake.ray_engine import RayEngine

        return RayEngine(brokers, settings, make_validator)
    return EmbeddedEngine(make_validator(spec, settings))


class EmbeddedEngine:
    """Prepares in this process: the whole plan is one slice, and each batch of it one commit."""

    def __init__(self, validator: BatchValidator) -> None:
        self._validator = validator

    def prepare(self, work: Work) -> Iterator[Sequence[PreparedFiles]]:
        """Prepare batch by batch. The next batch is read and decoded while one is written."""
        for chain in make_slices(work.spec.name, work.plan, work.landed):
            for piece in chain:
                for ready in prepare(piece, work.table, work.reader, self._validator, work.settings):
                    yield [ready]

    def discard(self, stale: Sequence[PreparedFiles]) -> bool:
        """Let the validator forget the rows of stale files, and plan again: what follows is stale too."""
        self._validator.memory = stale[0].memory_before
        return True
