"""Compare desired with existing topics and plan safe changes.

A plan never removes partitions, changes replication or deletes topics.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from coinstream.topics.catalogue import TopicSpec

REDPANDA_SILENT_KEYS: Final = frozenset(
    {
        "min.insync.replicas",
        "unclean.leader.election.enable",
        "index.interval.bytes",
        "segment.index.bytes",
        "segment.jitter.ms",
        "preallocate",
        "flush.messages",
        "file.delete.delay.ms",
    }
)
"""Settings that Redpanda accepts but does not report, so their absence is not drift."""

IGNORED_BY_REDPANDA: Final = frozenset({"compression.type"})
"""Settings that Redpanda reports but ignores; producers compress."""


class PlanAction(StrEnum):
    """Action of a plan for one topic."""

    CREATE = "create"
    CHANGE = "change"
    DRIFT = "drift"
    CANNOT = "cannot change"
    SAME = "no change"
    UNMANAGED = "unmanaged"


@dataclass(frozen=True, slots=True)
class ActualTopic:
    """Topic as reported by the cluster. `config` contains the reported settings."""

    name: str
    partitions: int
    replication_factor: int
    config: Mapping[str, str] = field(default_factory=dict)
    overridden: frozenset[str] = frozenset()
    """Keys set on the topic itself rather than inherited from the broker."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One setting that differs from the spec."""

    setting: str
    actual: str | None
    wanted: str | None
    action: PlanAction
    reason: str = ""


@dataclass(frozen=True, slots=True)
class TopicPlan:
    """Changes of one topic, and differences that a plan does not change."""

    name: str
    action: PlanAction
    spec: TopicSpec | None
    differences: tuple[Difference, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def changes(self) -> tuple[Difference, ...]:
        """Return the differences that the plan changes."""
        return tuple(item for item in self.differences if item.action is PlanAction.CHANGE)


@dataclass(frozen=True, slots=True)
class Plan:
    """Difference between desired and existing topics."""

    topics: tuple[TopicPlan, ...]

    def count(self, action: PlanAction) -> int:
        """Return the number of topics with an action."""
        return sum(topic.action is action for topic in self.topics)

    @property
    def is_settled(self) -> bool:
        """Return whether there is nothing to apply."""
        return not any(topic.action is PlanAction.CREATE or topic.changes for topic in self.topics)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Return all warnings without duplicates."""
        return tuple(dict.fromkeys(text for topic in self.topics for text in topic.warnings))


def plan(
    wanted: Iterable[tuple[TopicSpec, str | None]],
    actual: Mapping[str, ActualTopic],
    *,
    silent_keys: frozenset[str] = frozenset(),
    unmanaged: Sequence[str] = (),
) -> Plan:
    """Compare specs with the topics of the cluster.

    Args:
        wanted: specs adapted to the cluster, each with the warning of `fit_to_cluster`, if any.
        actual: topics of the cluster by name.
        silent_keys: settings that the broker does not report.
        unmanaged: topics with a known prefix but without a spec; shown, never changed.
    """
    topics = [_plan_topic(spec, note, actual.get(spec.name), silent_keys) for spec, note in wanted]
    topics += [TopicPlan(name, PlanAction.UNMANAGED, None) for name in unmanaged]
    return Plan(tuple(topics))


def _plan_topic(
    spec: TopicSpec, note: str | None, actual: ActualTopic | None, silent: frozenset[str]
) -> TopicPlan:
    warnings = (note,) if note else ()
    if actual is None:
        new = {"partitions": str(spec.partitions), "replication.factor": str(spec.replication_factor)}
        rows = tuple(
            Difference(name, None, value, PlanAction.CREATE) for name, value in (new | spec.config()).items()
        )
        return TopicPlan(spec.name, PlanAction.CREATE, spec, rows, warnings)
    found = (
        *_partition_difference(spec, actual),
        *_replication_difference(spec, actual),
        *_setting_differences(spec, actual, silent),
        *_foreign_settings(spec, actual),
    )
    return TopicPlan(spec.name, _overall(found), spec, found, warnings)


def _overall(found: Sequence[Difference]) -> PlanAction:
    actions = {item.action for item in found}
    for action in (PlanAction.CANNOT, PlanAction.CHANGE, PlanAction.DRIFT):
        if action in actions:
            return action
    return PlanAction.SAME


def _partition_difference(spec: TopicSpec, actual: ActualTopic) -> Iterable[Difference]:
    have, want = str(actual.partitions), str(spec.partitions)
    if actual.partitions < spec.partitions:
        reason = "keys move to other partitions: the order of a key holds only before and after"
        yield Difference("partitions", have, want, PlanAction.CHANGE, reason)
    elif actual.partitions > spec.partitions:
        yield Difference("partitions", have, want, PlanAction.CANNOT, "partitions never shrink")


def _replication_difference(spec: TopicSpec, actual: ActualTopic) -> Iterable[Difference]:
    if actual.replication_factor != spec.replication_factor:
        yield Difference(
            "replication.factor",
            str(actual.replication_factor),
            str(spec.replication_factor),
            PlanAction.CANNOT,
            "needs a reassignment of replicas; use the cluster's own tool",
        )


def _setting_differences(
    spec: TopicSpec, actual: ActualTopic, silent: frozenset[str]
) -> Iterable[Difference]:
    for name, want in spec.config().items():
        have = actual.config.get(name)
        if have != want and name not in silent:
            yield Difference(name, have, want, PlanAction.CHANGE)


def _foreign_settings(spec: TopicSpec, actual: ActualTopic) -> Iterable[Difference]:
    for name in sorted(actual.overridden - spec.config().keys()):
        yield Difference(
            name,
            actual.config.get(name),
            None,
            PlanAction.DRIFT,
            "set on the topic by someone else; not in the catalogue, so it is left alone",
        )
