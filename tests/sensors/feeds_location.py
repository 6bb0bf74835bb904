"""The code location of the supervised feed's test: feeds and their supervisor, as they are."""

import dagster as dg

import assets.feeds
import assets.topics
import sensors.feeds
from resources.admin import AdminResource
from resources.client import RedpandaResource

_admin = AdminResource()

defs = dg.Definitions.merge(
    assets.topics.defs,
    assets.feeds.defs,
    sensors.feeds.defs,
    dg.Definitions(
        resources={"admin": _admin, "client": RedpandaResource(admin=_admin)},
        executor=dg.in_process_executor,
    ),
)
