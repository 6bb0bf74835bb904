"""Fail the runs that an earlier `coinstream up` left unfinished.

No process outlives `coinstream up`. A run that an earlier one left as STARTED, after a power cut or a kill,
has no process any more. It would block its feed and count towards the limits of concurrency.
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
"""Statuses of runs that have a process. A queued run has none yet, and is launched by the new daemon."""


def fail_orphaned_runs(instance: dg.DagsterInstance, before: float) -> int:
    """Fail the unfinished runs that were last updated before that time.

    Args:
        instance: the instance.
        before: when this `coinstream up` started, in seconds since the epoch.

    Returns:
        The number of runs.
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
