"""Prepare slices and map over partitions: in this process, or on workers."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeVar

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


S = TypeVar("S")
T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Work:
    """The part of a landing that an engine prepares.

    Attributes:
        spec: the message type.
        table: the table as it is now.
        plan: the offsets to read.
        landed: the offsets that the table has reached.
        reader: reads the topics in this process.
        settings: of the lake.
        stop: set to end the landing; the engine then prepares no further slice.
    """

    spec: TableSpec
    table: Table
    plan: ReadPlan
    landed: LandedOffsets
    reader: TopicReader
    settings: LakeSettings
    stop: threading.Event = field(default_factory=threading.Event)


class Engine(Protocol):
    """Prepare slices, and map functions over partitions."""

    def prepare(self, work: Work) -> Generator[Sequence[PreparedFiles]]:
        """Prepare a plan, and yield prepared files in the order of each partition.

        Each item that it yields becomes one commit. Close the iterator to stop tasks that still run.
        """

    def discard(self, stale: Sequence[PreparedFiles]) -> bool:
        """Note that prepared files were stale.

        Returns:
            Whether to plan again at once.
        """

    def map(self, task: Callable[[S, T], R], shared: S, items: Sequence[T]) -> Iterator[R]:
        """Yield `task(shared, item)` of each item, in the order of the items.

        The task is a function of a module. On workers, it may run more than once for an item.
        """


class EmbeddedEngine:
    """Prepare in this process: the whole plan is one slice, and each batch of it one commit."""

    def __init__(self, make_validator: ValidatorFactory) -> None:
        self._make_validator = make_validator
        self._validators: dict[str, BatchValidator] = {}
        self._validator: BatchValidator | None = None

    def prepare(self, work: Work) -> Generator[Sequence[PreparedFiles]]:
        """Prepare batch by batch. The next batch is read and decoded while one is written."""
        name = work.spec.name
        if name not in self._validators:
            self._validators[name] = self._make_validator(work.spec, work.settings)
        self._validator = self._validators[name]
        for chain in make_slices(name, work.plan, work.landed):
            for piece in chain:
                for ready in prepare(piece, work.table, work.reader, self._validator, work.settings):
                    yield [ready]
                    if work.stop.is_set():
                        return

    def discard(self, stale: Sequence[PreparedFiles]) -> bool:
        """Reset the validator's state to before the stale files.

        Returns:
            True: what follows is stale too.
        """
        if self._validator is not None:
            self._validator.memory = stale[0].memory_before
        return True

    def map(self, task: Callable[[S, T], R], shared: S, items: Sequence[T]) -> Iterator[R]:
        """Yield the results, each computed when it is asked for."""
        return (task(shared, item) for item in items)


def worker_name() -> str:
    """Return the name of this process among the workers of an engine."""
    return f"{os.uname().nodename}:{os.getpid()}"


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
