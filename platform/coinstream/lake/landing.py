"""Topics into tables, exactly once: a bounded run from where the table stands to the topics' ends."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, Protocol, TypeVar

import msgspec
import numpy as np

from coinstream.expectations.check_result import CheckResult, merge_checks
from coinstream.lake.batch import Batch, batches
from coinstream.lake.commit import commit_batch
from coinstream.lake.landed_offsets import LandedOffsets, read_landed_offsets
from coinstream.lake.quarantine import ValidationResult, quarantine_batch
from coinstream.lake.schemas import TableSpec
from coinstream.lake.store import Lake
from coinstream.lake.topic_reader import TopicReader
from coinstream.settings import BrokerSettings

T = TypeVar("T")

log = logging.getLogger("coinstream.lake")

RUN: Final = "coinstream.run"
"""Snapshot property: which run wrote it."""
CHECKS: Final = "coinstream.checks"
"""Snapshot property: what each expectation found, `{name: [checked, failed]}`."""
MEMORY_SHARE: Final = 18
"""A batch's payloads take at most this part of the memory setting.

Two batches exist at a time (one being read, one being written), each also as columns, as the frame that is
checked and as the file being written: measured, about five times its payloads. The rest is for messages that
were fetched ahead, which take some four times their bytes in the client, and for what allocators keep.
"""


class BatchValidator(Protocol):
    """Decides who of a batch may land. Asked batch by batch, in order."""

    def validate(self, batch: Batch, ingested: datetime) -> ValidationResult:
        """Look at every row of the batch."""


class NoValidation:
    """Refuses only what a table cannot hold."""

    def validate(self, batch: Batch, ingested: datetime) -> ValidationResult:
        """Refuse what was not read, or lacks a required field."""
        return ValidationResult(~batch.storable(), ())


@dataclass
class TableReport:
    """What a run did to one table.

    Attributes:
        run: the landing's id, which its snapshots carry.
        messages: messages read.
        rows: rows that landed.
        refused: messages that did not land; they are in the quarantine.
        flagged: rows that landed and break a rule that warns; the table `flagged` says which.
        duplicates: messages that another run had landed meanwhile.
        extra: rows that hold fields unknown to their type.
        lost: messages that retention removed from the topic before any run came.
        recreated: topics that were deleted and made anew since they were landed.
        ignored: topics that look like exchange topics, but of no known exchange; they do not land.
        planned: offsets between the table and the topics' ends when the run began.
    """

    table: str
    run: str = ""
    topics: tuple[str, ...] = ()
    messages: int = 0
    rows: int = 0
    refused: int = 0
    flagged: int = 0
    duplicates: int = 0
    extra: int = 0
    commits: int = 0
    seconds: float = 0.0
    planned: int = 0
    lost: dict[str, int] = field(default_factory=dict)
    recreated: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    checks: list[CheckResult] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Rows a second."""
        return self.rows / self.seconds if self.seconds else 0.0


def land(
    lake: Lake,
    brokers: BrokerSettings,
    spec: TableSpec,
    validator: BatchValidator | None = None,
    *,
    run_id: str | None = None,
    on_progress: Callable[[TableReport], None] | None = None,
    topic: str | None = None,
) -> TableReport:
    """Land what the topics of a table hold now and the table does not.

    May be killed at any point, and may run beside itself: rows and the offsets they come from
    are one commit, so the next run goes on where this one came to.

    Args:
        validator: who may land; without one everything that the table can hold.
        topic: the topic to land with its exchange topics, where it is not the type's own.

    Raises:
        BrokerError, AuthenticationError: the cluster does not answer, or refuses.
        LakeError: the catalog or the store fails, or the table and the topics contradict each other.
    """
    started = time.monotonic()
    run = run_id or uuid.uuid4().hex
    report = TableReport(spec.name, run)
    chosen = validator or NoValidation()
    lake.quarantine(), lake.flagged()  # so that they can be queried, also while they are empty
    with TopicReader(brokers, lake.settings) as reader:
        selection = reader.select_topics(topic or spec.kind.topic)
        report.topics, report.ignored = selection.landed, selection.ignored
        plan = reader.plan(report.topics, read_landed_offsets(lake.table(spec)))
        report.lost, report.recreated = dict(plan.lost), plan.recreated
        report.planned = sum(stop - start for start, stop in plan.spans.values())
        _warn(report)
        source = batches(
            spec,
            prefetch(reader.chunks(plan)),
            plan,
            max_rows=lake.settings.batch_rows,
            max_bytes=lake.settings.memory_bytes // MEMORY_SHARE,
        )
        for batch in prefetch(source):
            positions = _land_batch(lake, batch, chosen, run, report)
            reader.report(positions)
            report.seconds = time.monotonic() - started
            if on_progress is not None:
                on_progress(report)
    report.seconds = time.monotonic() - started
    return report


def _land_batch(
    lake: Lake, batch: Batch, validator: BatchValidator, run: str, report: TableReport
) -> LandedOffsets:
    ingested = datetime.now(UTC)
    validation = validator.validate(batch, ingested)
    properties = {RUN: run, CHECKS: checks_text(validation)}
    quarantine_batch(lake, batch, validation, ingested, properties)
    done = commit_batch(lake, batch, ~validation.refused, ingested, properties)
    report.messages += len(batch)
    report.rows += done.rows
    report.duplicates += done.duplicates
    report.refused += int(np.count_nonzero(validation.refused))
    report.flagged += int(np.count_nonzero(validation.flagged()))
    report.extra += len(batch) - batch.rows["extra"].null_count
    report.commits += 1
    report.checks = merge_checks([*report.checks, *validation.checks])
    return done.positions


def prefetch(source: Iterator[T]) -> Iterator[T]:
    """The same items, each made in another thread while its predecessor is used. Never more than one ahead.

    ReadProgress, decoding and writing thus overlap; most of each is spent outside of Python.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="landing") as pool:
        pending = pool.submit(next, source, None)
        while (batch := pending.result()) is not None:
            pending = pool.submit(next, source, None)
            yield batch


def checks_text(validation: ValidationResult) -> str:
    """What a snapshot says of its checks."""
    return msgspec.json.encode({o.name: [o.checked, o.failed] for o in validation.checks}).decode()


def _warn(report: TableReport) -> None:
    for topic in report.ignored:
        log.warning(
            "topic %s does not land: it is of no known exchange. If it is, set COINSTREAM_LAKE_EXCHANGES",
            topic,
        )
    for topic, count in report.lost.items():
        log.warning(
            "retention removed %s message(s) of %s before they were landed: land more often", count, topic
        )
    for topic in report.recreated:
        log.warning("topic %s was deleted and made anew: it is landed from its beginning", topic)
