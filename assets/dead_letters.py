"""Define the check of new dead letters, and the jobs that inspect and replay them."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

import dagster as dg
from pydantic import Field

from assets.dead_letter_figures import dead_letter_metadata, read_summary
from assets.failed_messages import RECENT, as_evaluation, failure_check
from assets.topics import MOST_READ, SPECS, topic_key
from coinstream.dlq import MAX_REPLAYS, DeadLetterQueue
from coinstream.dlq.entry import DeadLetterFilter
from coinstream.settings import BrokerSettings
from coinstream.text import parse_time
from coinstream.topics.catalogue import DEAD_LETTER_SUFFIX
from resources.admin import AdminResource

QUEUES: Final = sorted(name for name in SPECS if name.endswith(DEAD_LETTER_SUFFIX))
CHECK: Final = "new_dead_letters"


class InspectConfig(dg.Config):
    """Selection of dead letters to show."""

    topic: str = Field(default="", description="Original topic, without `.dlq`. Empty: every topic.")
    newest: int = Field(default=MOST_READ, gt=0, description="Maximum number of newest entries to read.")


class ReplayConfig(dg.Config):
    """Selection of dead letters to replay."""

    topic: str = Field(description="Original topic, without `.dlq`.")
    dry_run: bool = Field(default=True, description="Only count the entries; set to false to replay them.")
    error: str | None = Field(default=None, description="Only entries whose error contains this text.")
    since: str | None = Field(
        default=None, description="Only entries written at this time or later (ISO 8601)."
    )
    limit: int | None = Field(default=None, gt=0, description="Maximum number of entries to replay.")
    max_replays: int = Field(
        default=MAX_REPLAYS, ge=0, description="Skip messages that failed again after this many replays."
    )


@dg.multi_asset_check(
    name="dead_letters",
    specs=[
        dg.AssetCheckSpec(
            CHECK,
            asset=topic_key(name),
            description="No message became a dead letter in the last 24 hours, unless it was replayed. "
            "The lag sensor evaluates it when entries arrive; run it after a replay.",
        )
        for name in QUEUES
    ],
    can_subset=True,
)
def dead_letters(
    context: dg.AssetCheckExecutionContext, admin: AdminResource
) -> Iterator[dg.AssetCheckResult]:
    """Check each selected topic for dead letters of the last 24 hours that were not replayed."""
    brokers = admin.settings()
    for key in sorted(context.selected_asset_check_keys):
        yield _evaluate(brokers, key.asset_key)


def _evaluate(brokers: BrokerSettings, key: dg.AssetKey) -> dg.AssetCheckResult:
    recent = DeadLetterFilter(since=datetime.now(UTC) - RECENT)
    summary = read_summary(brokers, key.path[-1], recent)
    return failure_check(
        key,
        CHECK,
        summary.waiting if summary is not None else 0,
        "new dead letter(s) in 24 hours",
        "no new dead letter in 24 hours",
        reasons=summary.reasons if summary is not None else {},
        metadata=dead_letter_metadata(summary) if summary is not None else {},
    )


@dg.op(description="Show the newest dead letters on the page of each dead-letter topic and in the log.")
def inspect(context: dg.OpExecutionContext, config: InspectConfig, admin: AdminResource) -> None:
    """Report count, reasons and newest entries of each topic as an observation."""
    brokers = admin.settings()
    wanted = config.topic.removesuffix(DEAD_LETTER_SUFFIX)
    names = [wanted + DEAD_LETTER_SUFFIX] if wanted else QUEUES
    total = 0
    for name in names:
        summary = read_summary(brokers, name, DeadLetterFilter(newest=config.newest))
        if summary is None:
            if wanted:
                raise dg.Failure(f"{wanted} has no dead-letter topic at {brokers.brokers}")
            continue
        total += summary.waiting
        text = f"{name}: {summary.entries:,} dead letter(s), {summary.waiting:,} not replayed"
        context.log.info(f"{text} {dict(summary.reasons) or ''}".strip())
        if name in SPECS:
            context.log_event(
                dg.AssetObservation(topic_key(name), description=text, metadata=dead_letter_metadata(summary))
            )
    context.add_output_metadata({"not_replayed": total})


@dg.op(description="Send dead letters to their original topic, each once; with `dry_run` only count them.")
def replay(context: dg.OpExecutionContext, config: ReplayConfig, admin: AdminResource) -> None:
    """Replay the selected dead letters of one topic, and evaluate its check again."""
    brokers = admin.settings()
    queue = DeadLetterQueue(brokers, config.topic)
    since = parse_time(config.since) if config.since else None
    wanted = DeadLetterFilter(error=config.error, since=since)
    if config.dry_run:
        found = (not one.is_replayed and one.replays < config.max_replays for one in queue.read(wanted))
        count = sum(found)
        count = count if config.limit is None else min(count, config.limit)
        context.log.info(
            f"would replay {count:,} dead letter(s) of {queue.topic}; set dry_run to false to do it"
        )
        context.add_output_metadata({"would_replay": count})
        return
    done = queue.replay(wanted, limit=config.limit, max_replays=config.max_replays)
    context.add_output_metadata(
        {
            "replayed": done.replayed,
            "replayed_before": done.already,
            "failed_too_often": done.exhausted,
            "incomplete": done.incomplete,
        }
    )
    context.log.info(f"replayed {done.replayed:,} dead letter(s) of {queue.topic}")
    if queue.dlq_topic in SPECS:
        result = _evaluate(brokers, topic_key(queue.dlq_topic))
        context.instance.report_runless_asset_event(as_evaluation(result))


@dg.job(description="Show the newest dead letters of one topic or of all.", tags={"system": "dead_letters"})
def inspect_dead_letters() -> None:
    """Run the op `inspect`."""
    inspect()


@dg.job(
    description="Send the dead letters of a topic to it again, each once. Set `dry_run` to false to do it.",
    tags={"system": "dead_letters"},
)
def replay_dead_letters() -> None:
    """Run the op `replay`."""
    replay()


defs = dg.Definitions(asset_checks=[dead_letters], jobs=[inspect_dead_letters, replay_dead_letters])
