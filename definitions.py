"""The code location that Dagster loads: every asset, check, job, schedule and sensor, and their resources.

Add a system by adding its module to `MODULES`; the module ends with `defs = dg.Definitions(...)`.
"""

from __future__ import annotations

from typing import Final

import dagster as dg

import assets.feeds
import assets.topic_checks
import assets.topic_health
import assets.topics
import sensors.cleanup
import sensors.failures
import sensors.feeds
import sensors.health
from resources.admin import AdminResource
from resources.alerts import AlertsResource
from resources.client import RedpandaResource

MODULES: Final = (
    assets.topics,
    assets.topic_checks,
    assets.feeds,
    assets.topic_health,
    sensors.health,
    sensors.feeds,
    sensors.failures,
    sensors.cleanup,
)

_admin = AdminResource()

defs: Final = dg.Definitions.merge(
    *(module.defs for module in MODULES),
    dg.Definitions(
        resources={"admin": _admin, "alerts": AlertsResource(), "client": RedpandaResource(admin=_admin)},
        # Runs here have few, short steps: a process for each would cost more than the step.
        executor=dg.in_process_executor,
    ),
)
