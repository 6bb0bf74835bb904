"""An engine that works as Ray does, with everything pickled, one slice after the other in this process."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import TypeVar

from coinstream.expectations.validator import ExpectationValidator
from coinstream.lake.engines import EmbeddedEngine, Work, WorkerJob, prepare_slice
from coinstream.lake.slices import PreparedFiles, Slice, TableTarget, make_slices
from coinstream.settings import BrokerSettings, LakeSettings

S = TypeVar("S")
T = TypeVar("T")
R = TypeVar("R")


def nothing(at: int) -> None:
    """Do nothing before a slice."""


class Workers(EmbeddedEngine):
    """Prepare slices as workers do.

    Args:
        twice: prepare each slice twice, as after the death of a worker.
        before: called with the number of slices prepared so far, before each slice.
    """

    def __init__(
        self,
        brokers: BrokerSettings,
        settings: LakeSettings,
        rows: int,
        *,
        twice: bool = False,
        before: Callable[[int], None] = nothing,
    ) -> None:
        super().__init__(ExpectationValidator)
        self._job = WorkerJob(brokers.brokers, settings.without_secrets(), ExpectationValidator)
        self._rows = rows
        self._twice = twice
        self._before = before
        self.prepared: list[PreparedFiles] = []

    def prepare(self, work: Work) -> Generator[Sequence[PreparedFiles]]:
        target = TableTarget.of(work.table)
        for chain in make_slices(work.spec.name, work.plan, work.landed, self._rows):
            done: PreparedFiles | None = None
            for piece in chain:
                self._before(len(self.prepared))
                follows, memory = (piece.after(done), done.memory) if done else (piece, None)
                done = self._slice(target, follows, memory)
                self.prepared.append(done)
                yield [done]

    def _slice(self, target: TableTarget, piece: Slice, memory: object) -> PreparedFiles:
        sent = pickle.dumps(((self._job, target), piece, memory))
        attempts = [prepare_slice(*pickle.loads(sent)) for _ in range(1 + self._twice)]
        ready: PreparedFiles = pickle.loads(pickle.dumps(attempts[-1]))
        return ready

    def discard(self, stale: Sequence[PreparedFiles]) -> bool:
        return False

    def map(self, task: Callable[[S, T], R], shared: S, items: Sequence[T]) -> Iterator[R]:
        for item in items:
            given = pickle.loads(pickle.dumps((task, shared, item)))
            yield pickle.loads(pickle.dumps(given[0](*given[1:])))


class Watched(EmbeddedEngine):
    """The embedded engine, which calls `before` with the number of batches prepared so far, before each."""

    def __init__(self, before: Callable[[int], None] = nothing) -> None:
        super().__init__(ExpectationValidator)
        self._before = before
        self.prepared: list[PreparedFiles] = []

    def prepare(self, work: Work) -> Generator[Sequence[PreparedFiles]]:
        self._before(len(self.prepared))
        for ready in super().prepare(work):
            self.prepared += ready
            yield ready
            self._before(len(self.prepared))
