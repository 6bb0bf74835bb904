"""Keep one run of each supervised feed alive, with a handover without a gap between runs."""

import json
import time
from typing import Any, Final

import dagster as dg
from dagster._core.storage.tags import GRPC_INFO_TAG

from assets.feeds import FEEDS
from coinstream.feeds.handover import Failures, FeedRun, Timing, counted, needs_run
from coinstream.feeds.lease import FeedLease
from coinstream.feeds.registry import DEFAULT, shards_of
from coinstream.settings import HomeSettings, WatchSettings

WATCH: Final = WatchSettings()
TIMING: Final = Timing(
    WATCH.feed_run_s,
    min(WATCH.feed_handover_s, WATCH.feed_run_s / 2),
    WATCH.feed_backoff_s,
    WATCH.feed_backoff_max_s,
)
SUPERVISED: Final = "coinstream/supervised"
"""Tag of supervised runs with the feed as value. The supervisor ignores other runs."""

_ALIVE: Final = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
]
_START_S: Final = 60.0
"""Maximum time for a run to acquire the lease of its feed, in seconds."""
_ENDED: Final = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]


@dg.sensor(
    job_name="run_feed",
    name="feed_supervisor",
    minimum_interval_seconds=min(WATCH.interval_s, 10),
    # Naming feeds in the settings also turns the sensor on.
    default_status=dg.DefaultSensorStatus.RUNNING if WATCH.feeds else dg.DefaultSensorStatus.STOPPED,
    description="Keep the feeds of COINSTREAM_WATCH_FEEDS running; the sensor is on if that is set. "
    f"Otherwise turn it on to keep `{DEFAULT}` running. Each run lasts {WATCH.feed_run_s:g} s and hands over "
    "to its successor without a gap. A crashed run is restarted with exponential backoff.",
)
def feed_supervisor(context: dg.SensorEvaluationContext) -> dg.SensorResult:
    """Check the runs of each feed and request missing ones."""
    now = time.time()
    notes: dict[str, Any] = json.loads(context.cursor) if context.cursor else {}
    requests, summaries = [], []
    for feed in enabled_feeds():
        known = notes.setdefault(feed, {"failures": [0, 0.0], "until": now})
        alive, failures = _runs_and_failures(context.instance, feed, known)
        if needs_run(alive, failures, now, TIMING):
            requests.append(_request(feed, now))
        summaries.append(_summary(feed, alive, failures, now))
    cursor = json.dumps({feed: notes[feed] for feed in enabled_feeds()})
    return dg.SensorResult(
        run_requests=requests, skip_reason=None if requests else "; ".join(summaries), cursor=cursor
    )


def enabled_feeds() -> tuple[str, ...]:
    """Return the supervised feeds. The name of a sharded feed selects all of its shards.

    Raises:
        ValueError: a feed is unknown; the message lists the known ones.
    """
    wanted = [part for name in WATCH.feeds or (DEFAULT,) for part in shards_of(name)]
    unknown = [feed for feed in wanted if feed not in FEEDS]
    if unknown:
        raise ValueError(
            f"COINSTREAM_WATCH_FEEDS names {', '.join(unknown)}; the feeds are {', '.join(sorted(FEEDS))}"
        )
    return tuple(dict.fromkeys(wanted))


def _summary(feed: str, alive: list[FeedRun], failures: Failures, now: float) -> str:
    if not failures.count:
        return f"{feed}: {len(alive)} run(s)"
    waiting = max(failures.at + failures.wait(TIMING) - now, 0.0)
    return f"{feed}: {len(alive)} run(s), {failures.count} crash(es) in a row, next start in {waiting:.0f} s"


def _runs_and_failures(
    instance: dg.DagsterInstance, feed: str, known: dict[str, Any]
) -> tuple[list[FeedRun], Failures]:
    """Return the feed's active runs and its consecutive crashes, which are stored in `known`."""
    records = instance.get_run_records(
        dg.RunsFilter(tags={SUPERVISED: feed}, statuses=[*_ALIVE, *_ENDED]), limit=20
    )
    alive = [
        FeedRun(record.dagster_run.run_id, record.create_timestamp.timestamp())
        for record in records
        if record.dagster_run.status in _ALIVE and not (_is_old(record) and not _is_held(feed))
    ]
    ended = sorted(
        (record.update_timestamp.timestamp(), record.dagster_run.status is dg.DagsterRunStatus.FAILURE)
        for record in records
        if record.dagster_run.status in _ENDED and record.update_timestamp.timestamp() > known["until"]
    )
    lasted_well = any(time.time() - run.started > TIMING.backoff_max_s for run in alive)
    failures = counted(Failures(*known["failures"]), ended, lasted_well)
    known["failures"] = failures.dump()
    known["until"] = max([known["until"], *(at for at, _ in ended)])
    return alive, failures


def _is_old(record: dg.RunRecord) -> bool:
    """Return whether a run has been alive long enough to hold the lease or wait for it.

    Only runs in processes of this code server are considered; those in separate pods are not visible here.
    """
    run = record.dagster_run
    is_here = run.status is dg.DagsterRunStatus.STARTED and GRPC_INFO_TAG in run.tags
    return is_here and time.time() - (record.start_time or time.time()) > _START_S


def _is_held(feed: str) -> bool:
    # After a power cut or kill the run is still STARTED, but no process holds the lease.
    return FeedLease(HomeSettings().leases, feed).has_holder()


def _request(feed: str, now: float) -> dg.RunRequest:
    config = {"duration_s": TIMING.run_s, "loop": True, "take_over": True}
    return dg.RunRequest(
        run_key=f"{feed}/{now:.3f}",
        partition_key=feed,
        tags={SUPERVISED: feed},
        run_config={"ops": {"feeds__market_data": {"config": config}}},
    )


defs = dg.Definitions(sensors=[feed_supervisor])
