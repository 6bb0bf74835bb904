"""Prepare slices on a Ray cluster. Needs the extra `coinstream[ray]`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from coinstream.errors import CoinstreamError, LakeError
from coinstream.lake.engines import Work
from coinstream.lake.prepare import empty_slice, prepare
from coinstream.lake.schemas import spec_named
from coinstream.lake.slices import PreparedFiles, Slice, TableTarget, join_prepared, make_slices
from coinstream.lake.topic_reader import TopicReader
from coinstream.lake.validation import BatchValidator, ValidatorFactory
from coinstream.settings import BrokerSettings, LakeSettings

_RETRIES: Final = 5
"""How often a slice is prepared again whose worker or node died."""
_SHARED_WAREHOUSES: Final = ("s3://", "s3a://", "gs://", "gcs://", "abfs://", "abfss://", "hdfs://", "oss://")


@dataclass(frozen=True)
class WorkerJob:
    """What all slices of a landing share. It holds no credential: workers take theirs from their environment.

    Attributes:
        brokers: the bootstrap servers.
        settings: settings of the lake that are no secret.
        make_validator: makes the validator of a message type.
    """

    brokers: str
    settings: Mapping[str, Any]
    make_validator: ValidatorFactory

    def lake_settings(self) -> LakeSettings:
        """Return the settings, with what is secret from the environment of this process."""
        return LakeSettings(**self.settings)


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


class RayEngine:
    """Prepares slices in tasks of Ray.

    It uses the cluster that this process is connected to, else the one that `RAY_ADDRESS` names, else
    one on this machine.

    Raises:
        LakeError: Ray is not installed or not reachable, or the cluster has several hosts while catalog or
            warehouse lie on this one.
    """

    def __init__(
        self, brokers: BrokerSettings, settings: LakeSettings, make_validator: ValidatorFactory
    ) -> None:
        self._ray = import_ray()
        self._job = WorkerJob(brokers.brokers, settings.without_secrets(), make_validator)
        self._connect(settings)
        hosts = {node["NodeManagerHostname"] for node in self._ray.nodes() if node["Alive"]}
        if len(hosts) > 1:
            require_shared_storage(settings)

    def prepare(self, work: Work) -> Iterator[Sequence[PreparedFiles]]:
        """Prepare slices side by side, and yield those that are ready together.

        Raises:
            LakeError: the cluster failed, or a worker died more often than a slice is tried again.
            CoinstreamError: what preparing a slice raised.
        """
        ray = self._ray
        task = ray.remote(max_retries=_RETRIES, num_cpus=1)(prepare_slice)
        shared = ray.put((self._job, TableTarget.of(work.table)))
        order: dict[Any, int] = {}
        for chain in make_slices(work.spec.name, work.plan, work.landed, work.settings.slice_rows):
            before = None
            for piece in chain:
                before = task.remote(shared, piece, before)
                order[before] = piece.number
        pending = list(order)
        try:
            while pending:
                ray.wait(pending, num_returns=1)
                done, pending = ray.wait(pending, num_returns=len(pending), timeout=0)
                yield [self._get(ref) for ref in sorted(done, key=order.__getitem__)]
        finally:
            for ref in pending:
                with suppress(ray.exceptions.RayError):
                    ray.cancel(ref)

    def discard(self, stale: Sequence[PreparedFiles]) -> bool:
        """Go on with the other slices; the stale ones are planned again afterwards."""
        return False

    def _get(self, ref: Any) -> PreparedFiles:
        try:
            ready: PreparedFiles = self._ray.get(ref)
        except self._ray.exceptions.RayTaskError as error:
            cause = error.cause
            if isinstance(cause, CoinstreamError):
                raise cause from None
            raise LakeError(f"a slice could not be prepared on Ray: {cause!r}") from error
        except self._ray.exceptions.RayError as error:
            raise LakeError(f"Ray failed: {type(error).__name__}: {error}") from error
        return ready

    def _connect(self, settings: LakeSettings) -> None:
        if self._ray.is_initialized():
            return
        local = not os.environ.get("RAY_ADDRESS")
        try:
            self._ray.init(
                include_dashboard=False if local else None,
                num_cpus=settings.workers if local else None,
                log_to_driver=False,
            )
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise LakeError(f"Ray cannot be reached: {error}. Check RAY_ADDRESS.") from error


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


def prepare_slice(
    shared: tuple[WorkerJob, TableTarget], piece: Slice, before: PreparedFiles | None
) -> PreparedFiles:
    """Prepare a slice in a worker. It may run again: it only adds files that nothing knows of."""
    job, target = shared
    settings = job.lake_settings()
    validator = _validator(job.make_validator, piece.spec, settings.model_dump_json())
    # A worker that prepares a slice again must not remember the rows of its first attempt.
    validator.memory = before.memory if before is not None else None
    table = target.open(settings)
    work = piece.after(before)
    with TopicReader(BrokerSettings(brokers=job.brokers), settings) as reader:
        parts = list(prepare(work, table, reader, validator, settings))
    return join_prepared(parts) if parts else empty_slice(work, table, validator)


@lru_cache(maxsize=16)
def _validator(make: ValidatorFactory, spec: str, settings: str) -> BatchValidator:
    """Return the validator of a type; making one takes seconds."""
    return make(spec_named(spec), LakeSettings.model_validate_json(settings))
