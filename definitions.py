"""Define the Dagster code location: assets, checks, jobs, schedules, sensors and resources.

To add a module, list it in `MODULES` and end it with `defs = dg.Definitions(...)`.
"""

from __future__ import annotations

from typing import Final, TypeVar

import dagster as dg

import assets.candles
import assets.dead_letters
import assets.feeds
import assets.lake
import assets.quality
import assets.quarantine
import assets.topic_checks
import assets.topic_health
import assets.topics
import sensors.cleanup
import sensors.failures
import sensors.feeds
import sensors.health
import sensors.lag
import sensors.quarantine
from assets.explorer_links import with_explorer_link
from resources.admin import AdminResource
from resources.alerts import AlertsResource
from resources.client import RedpandaResource
from resources.lake import LakeResource

MODULES: Final = (
    assets.topics,
    assets.topic_checks,
    assets.dead_letters,
    assets.feeds,
    assets.topic_health,
    assets.lake,
    assets.quality,
    assets.quarantine,
    assets.candles,
    sensors.lag,
    sensors.health,
    sensors.quarantine,
    sensors.feeds,
    sensors.failures,
    sensors.cleanup,
)

T = TypeVar("T")
_admin = AdminResource()


def _linked(location: dg.Definitions) -> dg.Definitions:
    """Return the definitions with links from each asset to its source code and to the explorer."""
    return dg.Definitions(
        assets=[_with_link(one) for one in dg.with_source_code_references(list(location.assets or []))],
        asset_checks=location.asset_checks,
        jobs=location.jobs,
        schedules=location.schedules,
        sensors=location.sensors,
        resources=location.resources,
    )


def _with_link(asset: T) -> T | dg.AssetSpec | dg.AssetsDefinition:
    if isinstance(asset, dg.AssetsDefinition):
        return asset.map_asset_specs(with_explorer_link)
    return with_explorer_link(asset) if isinstance(asset, dg.AssetSpec) else asset


defs: Final = dg.Definitions.merge(
    *(_linked(module.defs) for module in MODULES),
    dg.Definitions(
        resources={
            "admin": _admin,
            "alerts": AlertsResource(),
            "client": RedpandaResource(admin=_admin),
            "lake": LakeResource(),
        },
        # Runs have few short steps, so a process per step would cost more than the step.
        executor=dg.in_process_executor,
    ),
)
