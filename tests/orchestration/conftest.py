"""Runs parts of the code location in this process, on the real broker."""

from collections.abc import Callable
from typing import Any

import dagster as dg
import pytest

from coinstream.settings import BrokerSettings
from definitions import defs

Execute = Callable[..., dg.ExecuteInProcessResult]


@pytest.fixture
def instance() -> dg.DagsterInstance:
    return dg.DagsterInstance.ephemeral()


@pytest.fixture
def execute(
    broker_settings: BrokerSettings, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> Execute:
    """Materialize assets by key, with their checks, as the web UI's button does."""
    monkeypatch.setenv("REDPANDA_BROKERS", broker_settings.brokers)

    def run(*keys: dg.AssetKey, **options: Any) -> dg.ExecuteInProcessResult:
        job = defs.resolve_implicit_global_asset_job_def()
        return job.execute_in_process(asset_selection=list(keys), instance=instance, **options)

    return run
