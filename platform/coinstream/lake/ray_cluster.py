"""Connect to a Ray cluster and run functions on it. Needs the extra `coinstream[ray]`."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final, Self

from coinstream.errors import CoinstreamError, LakeError
from coinstream.settings import LakeSettings

log = logging.getLogger("coinstream.lake")

MAX_RETRIES: Final = 5
"""Maximum retries of a task whose worker or node failed."""
_START_ATTEMPTS: Final = 3
POLL_S: Final = 0.5
"""Interval at which a waiting driver checks whether to stop, in seconds."""
_SHARED_WAREHOUSES: Final = ("s3://", "s3a://", "gs://", "gcs://", "abfs://", "abfss://", "hdfs://", "oss://")


def import_ray() -> Any:
    """Import Ray, without its usage statistics.

    Raises:
        LakeError: it is not installed. Names the extra.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise LakeError(
            f"the engine `ray` is not installed ({error}): run `pip install 'coinstream[ray]'`, or leave "
            "COINSTREAM_LAKE_ENGINE at `embedded`"
        ) from None
    return ray


@contextmanager
def connect(settings: LakeSettings) -> Iterator[RayCluster]:
    """Connect to Ray for the block.

    It uses the cluster that this process is connected to, else the one that `RAY_ADDRESS` names, else
    one on this machine, which it stops at the end.

    Raises:
        LakeError: Ray is not installed or not reachable, or the cluster has several hosts while catalog or
            warehouse lie on this one.
    """
    ray = import_ray()
    own = not ray.is_initialized()
    if own:
        _initialize(ray, settings)
    try:
        hosts = {node["NodeManagerHostname"] for node in ray.nodes() if node["Alive"]}
        if len(hosts) > 1:
            require_shared_storage(settings)
        yield RayCluster(ray)
    finally:
        if own:
            ray.shutdown()


def _initialize(ray: Any, settings: LakeSettings) -> None:
    """Connect to the cluster that `RAY_ADDRESS` names, or start one.

    Ray waits half a minute for the processes that it starts; on a busy machine they may take longer.
    """
    address = os.environ.get("RAY_ADDRESS")
    attempts = 1 if address else _START_ATTEMPTS
    for attempt in range(1, attempts + 1):
        try:
            ray.init(
                include_dashboard=None if address else False,
                num_cpus=None if address else settings.workers,
                log_to_driver=False,
            )
            return
        except Exception as error:  # of a node that does not start in time Ray raises nothing more special
            ray.shutdown()
            doing = f"be reached at {address}" if address else "start on this machine"
            if attempt == attempts:
                raise LakeError(f"Ray cannot {doing}: {_first_line(error)}") from error
            log.warning("Ray did not start (attempt %s of %s): %s", attempt, attempts, _first_line(error))


def require_shared_storage(settings: LakeSettings) -> None:
    """Make sure that workers on other hosts reach the catalog and the warehouse.

    Raises:
        LakeError: one of them lies on this machine.
    """
    uri = settings.catalog_uri.get_secret_value() if settings.catalog_uri else ""
    if settings.catalog_type == "sql" and (not uri or uri.startswith("sqlite")):
        raise LakeError(
            "the Ray cluster has several hosts, but the catalog is an SQLite file of this one: set "
            "COINSTREAM_LAKE_CATALOG_URI to a PostgreSQL or REST catalog"
        )
    if not (settings.warehouse or "").startswith(_SHARED_WAREHOUSES):
        raise LakeError(
            "the Ray cluster has several hosts, but the warehouse is a folder of this one: set "
            "COINSTREAM_LAKE_WAREHOUSE to an object store such as s3://bucket/lake"
        )


class RayCluster:
    """A connection to Ray."""

    def __init__(self, ray: Any) -> None:
        self._ray = ray

    def share(self, value: Any) -> Any:
        """Put a value where every task can read it; pass the result in its place."""
        return self._ray.put(value)

    def tasks(self, function: Callable[..., Any]) -> Tasks:
        """Return an empty set of tasks that run a function of a module."""
        return Tasks(self._ray, function)


class Tasks:
    """Run calls of one function on workers, and submit a call again whose worker or node died.

    Ray's own retries are off: they are not reported, and a retry by Ray may compute the arguments of a task
    again from tasks before it. Here the driver keeps the arguments and counts the retries.

    Leaving the block cancels the calls that wait for a worker; those that run end by themselves, unread. Ray
    2.60 aborts the driver when a call ends in the moment in which it is cancelled.
    """

    def __init__(self, ray: Any, function: Callable[..., Any]) -> None:
        self._ray = ray
        self._remote = ray.remote(max_retries=0, num_cpus=1)(function)
        self._pending: dict[Any, tuple[Any, tuple[Any, ...], int]] = {}
        self._workers = 1
        errors = ray.exceptions
        self._died = (
            errors.WorkerCrashedError,
            errors.NodeDiedError,
            errors.ObjectLostError,
            errors.OutOfMemoryError,
        )

    def __enter__(self) -> Self:
        self._workers = int(self._ray.cluster_resources().get("CPU", 1))
        return self

    def __exit__(self, *error: object) -> None:
        # Workers take the calls in the order of submission.
        for ref in list(self._pending)[self._workers :]:
            with suppress(self._ray.exceptions.RayError):
                self._ray.cancel(ref, force=True)
        self._pending.clear()

    def __len__(self) -> int:
        return len(self._pending)

    def submit(self, key: Any, *arguments: Any, retries: int = 0) -> None:
        """Run the function with the arguments on a worker. The key names the call."""
        self._pending[self._remote.remote(*arguments)] = (key, arguments, retries)

    def completed(self, timeout_s: float | None = None) -> list[tuple[Any, Any, int]]:
        """Wait for a call to complete.

        Returns:
            Key, result and number of retries of each completed call; nothing when the time has passed.

        Raises:
            LakeError: the cluster failed, or workers died more than `MAX_RETRIES` times under one call.
            CoinstreamError: what a call raised.
        """
        ray = self._ray
        done, _ = ray.wait(list(self._pending), num_returns=1, timeout=timeout_s)
        if done:
            done, _ = ray.wait(list(self._pending), num_returns=len(self._pending), timeout=0)
        found: list[tuple[Any, Any, int]] = []
        for ref in done:
            key, arguments, retries = self._pending.pop(ref)
            try:
                found.append((key, self._result(ref), retries))
            except self._died as error:
                if retries == MAX_RETRIES:
                    text = f"workers of Ray died {retries + 1} times under task {key}: {error}"
                    raise LakeError(text) from error
                log.warning("task %s runs again: %s", key, _first_line(error))
                self.submit(key, *arguments, retries=retries + 1)
        return found

    def _result(self, ref: Any) -> Any:
        errors = self._ray.exceptions
        try:
            return self._ray.get(ref)
        except self._died:
            raise
        except errors.RayTaskError as error:
            cause = error.cause
            if isinstance(cause, CoinstreamError):
                raise cause from None
            raise LakeError(f"a task failed on Ray: {cause!r}") from error
        except errors.RayError as error:
            raise LakeError(f"Ray failed: {type(error).__name__}: {error}") from error

    def results(self, calls: Sequence[tuple[Any, ...]], most: int) -> Iterator[Any]:
        """Yield the result of each call in order, with at most `most` calls submitted at a time."""
        ready: dict[int, Any] = {}
        submitted = 0
        for wanted in range(len(calls)):
            while wanted not in ready:
                while submitted < len(calls) and submitted - wanted < most:
                    self.submit(submitted, *calls[submitted])
                    submitted += 1
                ready |= {key: result for key, result, _ in self.completed()}
            yield ready.pop(wanted)


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".partition("\n")[0]
