"""The code location that Dagster loads: every asset, check, job, schedule and sensor, and their resources.

Add a system by adding its module to `MODULES`; the module ends with `defs = dg.Definitions(...)`.
"""

from __future__ import annotations

from typing import Final

import dagster as dg

import assets.feeds
import assets.topic_checks
import assets.topics
from resources.admin import AdminResource
from resources.client import RedpandaResource

MODULES: Final = (
    assets.topics,
    assets.topic_checks,
    assets.feeds,
)

_admin = AdminResource()

defs: Final = dg.Definitions.merge(
    *(module.defs for module in MODULES),
    dg.Definitions(
        resources={"admin": _admin, "client": RedpandaResource(admin=_admin)},
        # Runs here have few, short steps: a process for each would cost more than the step.
        executor=dg.in_process_executor,
    ),
)
