"""Fail the unfinished runs of an earlier `coinstream up`.

No run process survives `coinstream up`. A run that is still STARTED after a power cut or kill therefore has
no process, but would block its feed and count towards concurrency limits.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import dagster as dg

_UNFINISHED: Final = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
"""Statuses of runs with a process. Queued runs have none and are launched by the new daemon."""


def fail_orphaned_runs(instance: dg.DagsterInstance, before: float) -> int:
    """Fail the unfinished runs that were last updated before a time.

    Args:
        instance: Dagster instance.
        before: start of this `coinstream up` in Unix seconds.

    Returns:
        The number of failed runs.
    """
    unfinished = dg.RunsFilter(statuses=_UNFINISHED, updated_before=datetime.fromtimestamp(before, UTC))
    runs = instance.get_runs(unfinished)
    for run in runs:
        message = "The process of this run ended with an earlier `coinstream up`."
        if run.status is dg.DagsterRunStatus.CANCELING:
            instance.report_run_canceled(run, message)
        else:
            instance.report_run_failed(run, message)
    return len(runs)
