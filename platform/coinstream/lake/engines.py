"""Prepare slices and map over partitions: in this process, or in tasks of a Ray cluster."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from coinstream.lake.landed_offsets import LandedOffsets
from coinstream.lake.prepare import empty_slice, prepare
from coinstream.lake.ray_cluster import POLL_S, RayCluster, connect
from coinstream.lake.read_plan import ReadPlan
from coinstream.lake.schemas import TableSpec, spec_named
from coinstream.lake.slices import PreparedFiles, Slice, TableTarget, join_prepared, make_slices
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
        """Yield the results, each computed when it is consumed."""
        return (task(shared, item) for item in items)


def worker_name() -> str:
    """Return the name of this process among the workers of an engine."""
    return f"{os.uname().nodename}:{os.getpid()}"


COMMIT_EVERY_S: Final = 1.0
"""Shortest interval of commits: a commit costs about as much as a small slice."""
MAPPED_AT_ONCE: Final = 64
"""Maximum submitted calls of a mapped function, which limits the memory of their results."""


@dataclass(frozen=True)
class WorkerJob:
    """The part of a slice that all slices of a landing share.

    It holds no credential: workers take theirs from their environment.

    Attributes:
        brokers: the bootstrap servers.
        settings: settings of the lake that are no secret.
        make_validator: makes the validator of a message type.
    """

    brokers: str
    settings: Mapping[str, Any]
    make_validator: ValidatorFactory

    def lake_settings(self) -> LakeSettings:
        """Return the settings, with the secrets of this process's environment."""
        return LakeSettings(**self.settings)


class RayEngine:
    """Prepare slices in tasks of Ray."""

    def __init__(
        self,
        cluster: RayCluster,
        brokers: BrokerSettings,
        settings: LakeSettings,
        make_validator: ValidatorFactory,
    ) -> None:
        self._cluster = cluster
        self._job = WorkerJob(brokers.brokers, settings.without_secrets(), make_validator)
        self._stale: set[int] = set()

    def prepare(self, work: Work) -> Generator[Sequence[PreparedFiles]]:
        """Prepare slices side by side, and yield those that became ready since the last commit.

        A slice that goes on with another is submitted when the other is ready, with what it came to.

        Raises:
            LakeError: the cluster failed, or a worker died more often than a slice is tried again.
            CoinstreamError: what preparing a slice raised.
        """
        chains = make_slices(work.spec.name, work.plan, work.landed, work.settings.slice_rows)
        follows = {piece.number: after for chain in chains for piece, after in pairwise(chain)}
        chain_of = {piece.number: at for at, chain in enumerate(chains) for piece in chain}
        self._stale.clear()
        shared = self._cluster.share((self._job, TableTarget.of(work.table)))
        with self._cluster.tasks(prepare_slice) as tasks:
            for chain in chains:
                tasks.submit(chain[0].number, shared, chain[0], None)
            gathered: list[PreparedFiles] = []
            due_at = 0.0
            while tasks and not work.stop.is_set():
                ready = [replace(one, retries=retries) for _, one, retries in tasks.completed(POLL_S)]
                stale = {chain_of[number] for number in self._stale}
                # Before the commit, so that workers continue meanwhile.
                for one in ready:
                    after = follows.get(one.number)
                    if after is not None and chain_of[one.number] not in stale:
                        tasks.submit(after.number, shared, after.after(one), one.memory)
                gathered += ready
                if gathered and time.monotonic() >= due_at:
                    yield sorted(gathered, key=lambda one: one.number)
                    gathered, due_at = [], time.monotonic() + COMMIT_EVERY_S
            if gathered:
                yield sorted(gathered, key=lambda one: one.number)

    def discard(self, stale: Sequence[PreparedFiles]) -> bool:
        """Note stale slices: those that follow them are not prepared.

        Returns:
            False: the other slices go on, and the stale ones are planned again afterwards.
        """
        self._stale.update(one.number for one in stale)
        return False

    def map(self, task: Callable[[S, T], R], shared: S, items: Sequence[T]) -> Iterator[R]:
        """Run the task on workers, an item at a time."""
        common = self._cluster.share(shared)
        with self._cluster.tasks(task) as tasks:
            yield from tasks.results([(common, item) for item in items], MAPPED_AT_ONCE)


def prepare_slice(shared: tuple[WorkerJob, TableTarget], piece: Slice, memory: Any) -> PreparedFiles:
    """Prepare a slice in a worker. It may run again: it only adds files that nothing refers to.

    Args:
        shared: what all slices share.
        piece: the slice.
        memory: what the validator remembers after the slice before it in its partition.
    """
    job, target = shared
    settings = job.lake_settings()
    validator = _validator(job.make_validator, piece.spec, settings.model_dump_json())
    # A worker that prepares a slice again must not remember the rows of its first attempt.
    validator.memory = memory
    table = target.open(settings)
    with TopicReader(BrokerSettings(brokers=job.brokers), settings) as reader:
        parts = list(prepare(piece, table, reader, validator, settings))
    ready = join_prepared(parts) if parts else empty_slice(piece, table, validator)
    return replace(ready, worker=worker_name())


@lru_cache(maxsize=16)
def _validator(make: ValidatorFactory, spec: str, settings: str) -> BatchValidator:
    """Return the validator of a type; making one takes seconds."""
    return make(spec_named(spec), LakeSettings.model_validate_json(settings))


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

    with connect(settings) as cluster:
        yield RayEngine(cluster, brokers, settings, make_validator)
