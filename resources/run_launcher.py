"""Extend Dagster's default run launcher with a health check of run processes.

Dagster's `DefaultRunLauncher` has no health check: a run whose code server was killed stays STARTED and
counts towards concurrency limits. With this launcher, the daemon's run monitoring checks every few seconds
and fails runs without a process.
"""

from __future__ import annotations

import json
import logging
import time
from typing import Any, Final, Self

import dagster as dg
import grpc  # type: ignore[import-untyped]
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
"""Time that a code server must refuse connections before its runs are failed, in seconds."""
UNRESPONSIVE_S: Final = 600.0
"""Time that a code server must leave requests unanswered before its runs are failed, in seconds."""


class MonitoredRunLauncher(DefaultRunLauncher):
    """Default run launcher with a health check, configured as `run_launcher` in dagster.yaml."""

    def __init__(self, inst_data: Any = None) -> None:
        super().__init__(inst_data)
        self._unreachable_since: dict[str, float] = {}

    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Any) -> Self:
        """Create the launcher from the settings of an instance."""
        del config_value
        return cls(inst_data=inst_data)

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Return True, so that run monitoring calls `check_run_worker_health`."""
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Request from the code server whether the process of a run is alive."""
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
        # On a busy machine, a server may answer late for minutes while its runs continue.
        is_late = (
            isinstance(error.__cause__, grpc.RpcError)
            and error.__cause__.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        )
        now = time.monotonic()
        since = self._unreachable_since.setdefault(run.run_id, now)
        if now - since < (UNRESPONSIVE_S if is_late else UNREACHABLE_S):
            return CheckRunHealthResult(WorkerStatus.RUNNING, "its code server does not answer yet")
        log.warning("the code server of run %s does not answer: %s", run.run_id, error)
        return CheckRunHealthResult(WorkerStatus.FAILED, "its code server is gone, and its process with it")


def _lives(run_id: str, address: dict[str, Any]) -> bool:
    """Return whether the code server has a live process of the run.

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
