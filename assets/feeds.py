"""Define the partitioned asset of feeds: a partition is a feed, and a run publishes it for a limited time."""

import threading
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Final

import dagster as dg
from pydantic import Field

from assets.feed_status import feed_metadata, sentence, status_of
from assets.termination import run_interruptibly
from assets.topics import FEEDS_KEY, OWNERS, SPECS, STREAM, newest_messages, topic_key, topics
from coinstream.consumer.tail_reader import end_offsets
from coinstream.feeds.lease import FeedLease
from coinstream.feeds.registry import DEFAULT, Options, entries, open_feed
from coinstream.feeds.runner import FeedReport, Progress, Quantiles
from coinstream.feeds.runner import run_feed as run
from coinstream.monitoring.exporter import serving_metrics
from coinstream.settings import BrokerSettings, HomeSettings
from resources.admin import AdminResource
from resources.client import RedpandaResource

FEEDS: Final = entries()
PARTITIONS: Final = dg.StaticPartitionsDefinition(sorted(FEEDS))


def exchange_key(exchange: str) -> dg.AssetKey:
    """Return the external asset of an exchange."""
    return dg.AssetKey(["exchanges", exchange])


EXCHANGES: Final = [
    dg.AssetSpec(
        exchange_key(exchange),
        description="\n\n".join(feed.description for feed in FEEDS.values() if feed.exchange == exchange),
        group_name="exchanges",
        kinds={"exchange"},
        owners=OWNERS,
        tags={"system": "feeds"},
    )
    for exchange in sorted({feed.exchange for feed in FEEDS.values()})
]


_OFFSETS_SCHEMA: Final = dg.TableSchema(
    [
        dg.TableColumn("topic", description="Topic of the run's messages."),
        dg.TableColumn("partition", "int"),
        dg.TableColumn("messages", "int", "Messages of this run acknowledged by the cluster."),
        dg.TableColumn("end_offset", "int", "Offset of the next message of the partition."),
    ]
)


PROGRESS_EVERY_S: Final = 60.0
"""Interval at which a run logs its progress, in seconds."""

Counts = Mapping[tuple[str, int], int]
"""A number by topic and partition."""


class FeedConfig(dg.Config):
    """Limits and options of a feed run, which ends at the first limit reached."""

    duration_s: float = Field(default=60.0, gt=0, description="Stop after this many seconds.")
    limit: int | None = Field(default=None, gt=0, description="Stop after this many messages.")
    speed: float = Field(
        default=1.0,
        ge=0,
        description="Speed of a recording as a multiple of real time; 0 is as fast as possible.",
    )
    loop: bool = Field(default=False, description="Restart a recording at its end.")

    take_over: bool = Field(
        default=False,
        description="Take over without a gap if another run publishes this feed, instead of failing. "
        "The other run ends.",
    )

    def options(self) -> Options:
        """Return the options of the feed: its speed, and whether it loops."""
        return Options(speed=self.speed or None, loop=self.loop)


@dg.asset(
    key=FEEDS_KEY,
    deps=[spec.key for spec in EXCHANGES],
    partitions_def=PARTITIONS,
    group_name="feeds",
    kinds={"python", "redpanda"},
    owners=OWNERS,
    tags={"system": "feeds"},
    # The freshness status on the asset's page shows that data is late.
    freshness_policy=dg.FreshnessPolicy.time_window(
        fail_window=timedelta(days=1), warn_window=timedelta(hours=1)
    ),
)
def market_data(
    context: dg.AssetExecutionContext, config: FeedConfig, admin: AdminResource, client: RedpandaResource
) -> dg.MaterializeResult[None]:
    """Publish quotes, trades, candles and analytics of one exchange to its topics.

    A partition is a feed, and only one run at a time publishes it. A run ends after `duration_s` seconds or
    `limit` messages, or when it is terminated. On exit the run flushes its buffer. It fails if any message is
    unacknowledged.
    """
    if not context.has_partition_key:
        raise dg.Failure(f"No feed selected: select one as the partition. Feeds: {', '.join(FEEDS)}.")
    feed = open_feed(context.partition_key, config.options())
    lease = FeedLease(HomeSettings().leases, feed.name, take_over=config.take_over)
    _ensure_topics(context, admin)
    with serving_metrics({"feed": feed.name}), client.open() as redpanda:

        def publish(stop: threading.Event) -> FeedReport:
            return run(
                feed,
                redpanda,
                duration_s=config.duration_s,
                limit=config.limit,
                lease=lease,
                stop=stop,
                on_progress=_progress_logger(context, feed.name),
                status_folder=HomeSettings().feed_status,
            )

        try:
            report = run_interruptibly(publish)
        finally:
            # Also when the run is terminated, because its acknowledged messages are in the topics.
            ends = _observe(context, admin, redpanda.delivered)
        received = {"frames": report.frames, "rejected": _counts("reason", report.rejected)}
        _observe_exchange(context, feed.name, received)
        return dg.MaterializeResult(metadata=_metadata(report, redpanda.delivered, ends), data_version=STREAM)


def _progress_logger(context: dg.AssetExecutionContext, feed: str) -> Callable[[Progress], None]:
    """Return a callback that logs the progress once a minute, also as an observation of the exchange."""
    due = time.monotonic() + PROGRESS_EVERY_S

    def on_progress(now: Progress) -> None:
        nonlocal due
        if time.monotonic() < due:
            return
        due = time.monotonic() + PROGRESS_EVERY_S
        text = f"{feed}: {now.messages:,} messages in {now.seconds:,.0f} s ({now.rate:,.0f}/s)"
        context.log.info(text)
        _observe_exchange(context, feed, {"by_type": _counts("type", now.by_type)})

    return on_progress


def _observe(context: dg.AssetExecutionContext, admin: AdminResource, delivered: Counts) -> Counts:
    """Report the run's messages as observations of their topics; return the end offsets."""
    ends = end_offsets(admin.settings(), delivered)
    for topic in sorted({topic for topic, _ in delivered}):
        context.log_event(_observation(topic, context.partition_key, delivered, ends, admin.settings()))
    return ends


def _observe_exchange(context: dg.AssetExecutionContext, feed: str, more: dict[str, Any]) -> None:
    """Report the status of the feed as an observation of the exchange."""
    status = status_of(HomeSettings().feed_status, feed)
    context.log_event(
        dg.AssetObservation(
            exchange_key(FEEDS[context.partition_key].exchange),
            description=sentence(status) if status is not None else f"{feed}: no status yet",
            metadata={**(feed_metadata(status) if status is not None else {"feed": feed}), **more},
        )
    )


def _observation(
    topic: str, feed: str, delivered: Counts, ends: Counts, brokers: BrokerSettings
) -> dg.AssetObservation:
    """Return the observation of a topic with the messages of a feed run."""
    here = {partition: count for partition, count in delivered.items() if partition[0] == topic}
    return dg.AssetObservation(
        topic_key(topic),
        description=f"{sum(here.values()):,} messages from {feed}",
        metadata={
            "messages": sum(here.values()),
            "feed": feed,
            "offsets": _offsets(here, ends),
            **newest_messages(brokers, topic, sum(here.values())),
        },
    )


def _ensure_topics(context: dg.AssetExecutionContext, admin: AdminResource) -> None:
    provisioner = admin.provisioner()
    wanted = provisioner.plan(SPECS.values())
    if not wanted.is_settled:
        context.log.info("Topics are missing or changed: applying the catalogue first.")
        provisioner.apply(wanted)


def _metadata(report: FeedReport, delivered: Counts, ends: Counts) -> dict[str, Any]:
    return {
        "messages": report.messages,
        "messages_per_second": report.rate,
        "seconds": report.seconds,
        "frames": report.frames,
        "dead_letters": report.dead_letters,
        **_quantiles("exchange_to_receipt", report.exchange_to_receipt),
        **_quantiles("receipt_to_produce", report.receipt_to_produce),
        "by_type": _counts("type", report.by_type),
        "rejected": _counts("reason", report.rejected),
        "parts_without_message": _counts("reason", report.entries),
        "flags": _counts("flag", report.flags),
        "offsets": _offsets(delivered, ends),
    }


def _quantiles(name: str, values: Quantiles | None) -> dict[str, float]:
    if values is None:
        return {}
    return {f"{name}_p50_ms": round(values.p50_ms, 3), f"{name}_p99_ms": round(values.p99_ms, 3)}


def _counts(name: str, counts: dict[str, int]) -> dg.MetadataValue:
    if not counts:
        return dg.MetadataValue.md("none")
    records = [dg.TableRecord({name: key, "count": count}) for key, count in counts.items()]
    return dg.MetadataValue.table(records)


def _offsets(delivered: Counts, ends: Counts) -> dg.MetadataValue:
    records = [
        dg.TableRecord(
            {"topic": topic, "partition": part, "messages": count, "end_offset": ends[topic, part]}
        )
        for (topic, part), count in sorted(delivered.items())
    ]
    return dg.MetadataValue.table(records, schema=_OFFSETS_SCHEMA)


run_feed = dg.define_asset_job(
    "run_feed",
    selection=[FEEDS_KEY],
    description="Publish one feed for a limited time; select the feed as the partition.",
    tags={"system": "feeds"},
)

publish_and_check = dg.define_asset_job(
    "publish_and_check",
    selection=dg.AssetSelection.assets(FEEDS_KEY, topics),
    description="Publish one feed for a limited time, then provision the topics and check their messages.",
    tags={"system": "feeds"},
)


_UNFINISHED: Final = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


@dg.schedule(
    job=run_feed,
    cron_schedule="*/5 * * * *",
    name="feed_schedule",
    description=f"Publish the `{DEFAULT}` feed for a minute, every five minutes.",
    tags={"system": "feeds"},
)
def feed_schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """Request a run of the default feed unless it is already being published."""
    going_on = dg.RunsFilter(tags={"dagster/partition": DEFAULT}, statuses=_UNFINISHED)
    if context.instance.get_run_records(going_on, limit=1):
        return dg.SkipReason(f"The feed {DEFAULT} is being published by another run.")
    return dg.RunRequest(partition_key=DEFAULT)


defs = dg.Definitions(
    assets=[*EXCHANGES, market_data], jobs=[run_feed, publish_and_check], schedules=[feed_schedule]
)
