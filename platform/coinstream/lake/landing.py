"""Land topics in tables exactly once: plan, prepare slices, commit files with their offsets."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from coinstream.errors import LakeError
from coinstream.lake.commit import CommitResult, commit_prepared, drop_files
from coinstream.lake.engines import EmbeddedEngine, Engine, Work, worker_name
from coinstream.lake.landed_offsets import read_landed_offsets
from coinstream.lake.read_plan import ReadPlan, plan_up_to
from coinstream.lake.schemas import TableSpec
from coinstream.lake.slices import PreparedFiles
from coinstream.lake.store import Lake
from coinstream.lake.topic_reader import ExpiredOffsetsError, TopicReader
from coinstream.lake.validation import BatchValidator, CheckResult, NoValidation, merge_checks
from coinstream.settings import BrokerSettings

if TYPE_CHECKING:
    from pyiceberg.table import Table

log = logging.getLogger("coinstream.lake")


@dataclass
class TableReport:
    """Result of a landing of one table.

    Attributes:
        run: id of the landing, which its snapshots contain.
        messages: messages read.
        rows: landed rows.
        refused: refused messages, which are in the quarantine.
        flagged: landed rows that fail a warning rule, listed in the table `flagged`.
        duplicates: messages that another landing committed concurrently.
        slices: committed slices.
        retries: slices that were planned again because another writer made them stale.
        restarts: slices that were prepared again because their worker or node failed.
        workers: processes that prepared slices.
        extra: rows with fields that their type does not have.
        lost: messages deleted by retention before they were landed.
        recreated: topics recreated since they were landed.
        ignored: topics with the prefix of the table but of no known exchange, which are not landed.
        planned: offsets between the landed offsets and the ends of the topics at the start.
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
    slices: int = 0
    retries: int = 0
    restarts: int = 0
    workers: tuple[str, ...] = ()
    seconds: float = 0.0
    planned: int = 0
    lost: dict[str, int] = field(default_factory=dict)
    recreated: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    checks: list[CheckResult] = field(default_factory=list)

    def add(self, ready: Sequence[PreparedFiles], done: CommitResult) -> None:
        """Add the result of a commit of prepared files."""
        dropped = {id(one) for one in done.stale}
        taken = [one for one in ready if id(one) not in dropped]
        self.rows += done.rows
        self.duplicates += done.duplicates
        self.messages += sum(one.messages for one in taken)
        self.refused += sum(one.refused.num_rows for one in taken)
        self.flagged += sum(one.flagged.num_rows for one in taken)
        self.extra += sum(one.extra for one in taken)
        self.slices += len(taken)
        self.retries += len(done.stale)
        self.restarts += sum(one.retries for one in ready)
        self.workers = tuple(sorted({*self.workers, *(one.worker or worker_name() for one in ready)}))
        self.commits += bool(taken)
        self.checks = merge_checks([*self.checks, *(check for one in taken for check in one.checks)])

    @property
    def rate(self) -> float:
        """Return the landed rows per second."""
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
    engine: Engine | None = None,
    stop: threading.Event | None = None,
) -> TableReport:
    """Land the messages of a table's topics after the landed offsets.

    Rows and offsets are one commit, so a landing may be killed at any point and may run concurrently with
    others. The next landing continues at the committed offsets.

    Args:
        validator: decides which rows are landed; None lands every row that the table can store.
        topic: general topic to land, if it is not the topic of the message type.
        engine: engine that prepares the slices; None prepares them in this process.
        stop: set to end the landing after the current commit.

    Raises:
        BrokerError, AuthenticationError: the cluster does not answer, or refuses a request.
        LakeError: the catalog or the store failed, or the table and the topics are inconsistent.
    """
    started = time.monotonic()
    report = TableReport(spec.name, run_id or uuid.uuid4().hex)
    chosen = engine or EmbeddedEngine(lambda *_: validator or NoValidation())
    stopped = stop or threading.Event()
    lake.quarantine(), lake.flagged()  # so that they can be queried, also while they are empty
    with TopicReader(brokers, lake.settings) as reader:
        selection = reader.select_topics(topic or spec.kind.topic)
        report.topics, report.ignored = selection.landed, selection.ignored
        plan = reader.plan(report.topics, read_landed_offsets(lake.table(spec)))
        report.lost, report.recreated = dict(plan.lost), plan.recreated
        report.planned = plan.offsets
        _warn(report)
        for committed in _commits(lake, spec, reader, plan, chosen, report, stopped):
            reader.report(committed.offsets)
            report.seconds = time.monotonic() - started
            if on_progress is not None:
                on_progress(report)
    report.seconds = time.monotonic() - started
    return report


def _commits(
    lake: Lake,
    spec: TableSpec,
    reader: TopicReader,
    plan: ReadPlan,
    engine: Engine,
    report: TableReport,
    stop: threading.Event,
) -> Iterator[CommitResult]:
    """Prepare and commit the plan; plan stale slices again, up to the end of the first plan."""
    stops = {partition: end for partition, (_, end) in plan.spans.items()}
    while plan.offsets and not stop.is_set():
        table = lake.table(spec)
        landed = read_landed_offsets(table)
        plan = plan_up_to(plan, landed, stops)
        work = Work(spec, table, plan, landed, reader, lake.settings, stop)
        try:
            stale = yield from _commit_plan(lake, work, engine, report)
        except ExpiredOffsetsError as error:
            log.warning("%s: planning again", error)
            plan = _plan_after_retention(reader, lake.table(spec), plan, report)
            continue
        if not stale:
            return


def _commit_plan(
    lake: Lake, work: Work, engine: Engine, report: TableReport
) -> Generator[CommitResult, None, bool]:
    """Prepare and commit a plan.

    Returns:
        Whether prepared files were stale.
    """
    stale = False
    with closing(engine.prepare(work)) as prepared:
        for ready in prepared:
            _require_same_topics(work.reader, work.plan)
            done = commit_prepared(lake, work.spec, ready, report.run)
            report.add(ready, done)
            yield done
            if done.stale:
                stale = True
                drop_files(work.table, done.stale)
                if engine.discard(done.stale):
                    break
    return stale


def _plan_after_retention(reader: TopicReader, table: Table, plan: ReadPlan, report: TableReport) -> ReadPlan:
    """Plan the offsets that retention has not deleted, and report the others as lost."""
    landed = read_landed_offsets(table)
    left = reader.plan(report.topics, landed)
    for (topic, partition), (start, end) in plan.spans.items():
        planned = max(start, landed.next(topic, partition, plan.ids.get(topic)))
        low, _ = left.spans.get((topic, partition), (end, end))
        if lost := min(low, end) - planned:
            report.lost[topic] = report.lost.get(topic, 0) + max(lost, 0)
    spans = {place: span for place, span in left.spans.items() if place in plan.spans}
    return ReadPlan(spans, plan.ids, report.lost, plan.recreated)


def _require_same_topics(reader: TopicReader, plan: ReadPlan) -> None:
    """Check that the topics were not recreated since they were planned.

    Raises:
        LakeError: a topic was deleted and created again since the landing began.
    """
    if recreated := reader.recreated_since(plan.ids):
        raise LakeError(
            f"topic {', '.join(recreated)} was deleted and created again while it was landed; what was read "
            "since the last commit is dropped. Land again: the new topic is landed from its beginning."
        )


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
        log.warning("topic %s was recreated and is landed from its beginning", topic)
