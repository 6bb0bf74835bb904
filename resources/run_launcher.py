"""Launch runs as Dagster's default launcher does, and tell run monitoring whether their process lives.

Dagster's own `DefaultRunLauncher` has no health check: a run whose code server was killed, or lost its power,
stays STARTED for ever, and counts towards the limits of concurrency. Run monitoring of the daemon asks this
launcher every few seconds, and fails a run whose process is gone.
"""

from __future__ import annotations

import json
import logging
import time
from typing import Any, Final, Self

import dagster as dg
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.launcher import DefaultRunLauncher
from dagster._core.launcher.base import CheckRunHealthResult, WorkerStatus
from dagster._core.storage.tags import GRPC_INFO_TAG
from dagster._grpc.client import DagsterGrpcClient
from dagster._grpc.types import CanCancelExecutionRequest, CanCancelExecutionResult
from dagster._serdes import deserialize_value

log = logging.getLogger(__name__)

_TIMEOUT_S: Final = 5
UNREACHABLE_S: Final = 10.0
"""For how long a code server must be unreachable before its runs are failed."""


class MonitoredRunLauncher(DefaultRunLauncher):
    """The default run launcher with a health check. Configure it as `run_launcher` in dagster.yaml."""

    def __init__(self, inst_data: Any = None) -> None:
        super().__init__(inst_data)
        self._unreachable_since: dict[str, float] = {}

    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Any) -> Self:
        """Make the launcher that an instance's settings name."""
        del config_value
        return cls(inst_data=inst_data)

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Tell run monitoring to ask `check_run_worker_health`."""
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Ask the code server that started the run whether its process lives."""
        address = run.tags.get(GRPC_INFO_TAG)
        if address is None:
            return CheckRunHealthResult(WorkerStatus.UNKNOWN, "the run was not started by a code server")
        try:
            lives = _lives(run.run_id, json.loads(address))
        except DagsterUserCodeUnreachableError as error:
            return self._unreachable(run, error)
        self._unreachable_since.pop(run.run_id, None)
        if lives:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(WorkerStatus.FAILED, "its code server does not have the process any more")

    def _unreachable(self, run: dg.DagsterRun, error: Exception) -> CheckRunHealthResult:
        # One refused connection is no proof: a busy server may be slow to answer.
        now = time.monotonic()
        since = self._unreachable_since.setdefault(run.run_id, now)
        if now - since < UNREACHABLE_S:
            return CheckRunHealthResult(WorkerStatus.RUNNING, "its code server does not answer yet")
        log.warning("the code server of run %s does not answer: %s", run.run_id, error)
        return CheckRunHealthResult(WorkerStatus.FAILED, "its code server is gone, and its process with it")


def _lives(run_id: str, address: dict[str, Any]) -> bool:
    """Return whether the code server has a process for the run.

    Raises:
        DagsterUserCodeUnreachableError: the server does not answer.
    """
    client = DagsterGrpcClient(
        host=str(address.get("host") or "localhost"),
        port=address.get("port"),
        socket=address.get("socket"),
        use_ssl=bool(address.get("use_ssl", False)),
    )
    answer = client.can_cancel_execution(CanCancelExecutionRequest(run_id=run_id), timeout=_TIMEOUT_S)
    return deserialize_value(answer, CanCancelExecutionResult).can_cancel
