"""Land a table within a run: on the engine of the settings, with progress in the log of the run.

Modules of the code location import Polars, pyiceberg and other large packages inside functions, because every
run loads the code location and few runs use them.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, Final

import dagster as dg

from assets.termination import run_interruptibly
from coinstream.lake.schemas import TableSpec
from coinstream.lake.store import Lake
from coinstream.settings import BrokerSettings

if TYPE_CHECKING:
    from coinstream.lake.landing import TableReport

PROGRESS_EVERY_S: Final = 15.0
"""A run logs its progress this often, and at its first commit."""


def pool_of(table: str) -> str:
    """Return the pool of a table: one run at a time writes it, since the default limit of pools is one."""
    return f"table_{table}"


def land_in_run(
    context: dg.AssetExecutionContext, lake: Lake, brokers: BrokerSettings, spec: TableSpec
) -> TableReport:
    """Land a table.

    A terminated run ends after the commit that is under way, and its tasks are cancelled. The next run
    goes on there.

    Raises:
        DagsterExecutionInterruptedError: the run was terminated.
        LakeError, BrokerError: as `land`.
    """
    from coinstream.expectations.validator import ExpectationValidator
    from coinstream.lake.engines import open_engine
    from coinstream.lake.landing import land

    progress = _Progress(context)

    def work(stop: threading.Event) -> TableReport:
        with open_engine(lake.settings, brokers, ExpectationValidator) as engine:
            return land(
                lake,
                brokers,
                spec,
                engine=engine,
                run_id=context.run.run_id,
                on_progress=progress.log,
                stop=stop,
            )

    return run_interruptibly(work)


class _Progress:
    """Writes the state of a landing to the log of its run."""

    def __init__(self, context: dg.AssetExecutionContext) -> None:
        self._context = context
        self._next_at = 0.0

    def log(self, report: TableReport) -> None:
        now = time.monotonic()
        if now < self._next_at:
            return
        self._next_at = now + PROGRESS_EVERY_S
        self._context.log.info(
            f"{report.table}: {report.messages:,} of at most {report.planned:,} messages landed by "
            f"{len(report.workers)} worker(s) in {report.slices:,} slice(s), {report.rate:,.0f} rows/s; "
            f"{report.retries:,} stale slice(s) planned again, {report.restarts:,} restarted"
        )


def counts(report: TableReport, again: TableReport | None, engine: str) -> dict[str, Any]:
    """Return the metadata of a materialization.

    Args:
        report: what was new.
        again: what was landed again of past hours.
        engine: the name of the engine that prepared the slices.
    """
    found: dict[str, Any] = {
        "messages": report.messages,
        "landed": report.rows,
        "refused": report.refused,
        "flagged": report.flagged,
        "with_unknown_fields": report.extra,
        "landed_by_others": report.duplicates,
        "commits": report.commits,
        "engine": engine,
        "slices": report.slices,
        "workers": len(report.workers),
        "retries": report.retries,
        "restarts": report.restarts,
        "seconds": round(report.seconds, 3),
        "rows_per_second": round(report.rate, 1),
        "lost_to_retention": sum(report.lost.values()),
    }
    if again is not None:
        found |= {"landed_again": again.rows, "looked_through_again": again.messages}
    return found
