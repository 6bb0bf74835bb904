"""Measure the lag of consumer groups per topic and partition, in messages and in seconds.

In messages the lag is `max(high watermark - max(committed, log start), 0)`. The committed offset is read
before the watermark, so lag is never negative. A partition without a commit counts from the log start.
Transaction markers and aborted messages do not count.

In seconds the lag is the age of the oldest unhandled message by its record timestamp, or else the time since
the log end passed the committed offset. `TimeLagSource` is the source.

The sensor and the exporter store observations in one file per cluster, so that all report the same trends.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import msgspec
from confluent_kafka.admin import ClusterMetadata

from coinstream.files import private_folder, write_whole
from coinstream.kafka.records import PartitionKey
from coinstream.monitoring.broker_requests import OldestRecord, TimeLagReader
from coinstream.monitoring.cluster import (
    ClusterReader,
    CommittedReader,
    GroupNotFoundError,
    GroupState,
    Watermarks,
)
from coinstream.monitoring.evaluation import (
    Evaluation,
    EvaluationRules,
    GroupWindows,
    Observation,
    WatermarkHistory,
)
from coinstream.monitoring.group_lag import GroupLag, PartitionLag, TimeLagSource, start_of
from coinstream.settings import BrokerSettings, HomeSettings, LagSettings
from coinstream.text import did_you_mean
from coinstream.topics.catalogue import market_topics

log = logging.getLogger(__name__)

_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._-]")


class LagObservations:
    """Stored windows by group. If two processes write, the later poll replaces the earlier one.

    Args:
        folder: folder of the files.
        writable: whether this process stores its polls.
    """

    def __init__(self, folder: Path, *, writable: bool) -> None:
        self._folder = folder
        self.writable: Final = writable

    def load(self, cluster: str) -> dict[str, Any]:
        """Return the stored windows by group, or an empty mapping without a readable file."""
        path = self._path(cluster)
        try:
            groups = msgspec.json.decode(path.read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            log.warning("cannot read the lag history %s: %s; it starts empty", path, error)
            return {}
        return groups if isinstance(groups, dict) else {}

    def store(self, cluster: str, groups: Mapping[str, Any]) -> None:
        """Replace the stored windows; log a warning if the folder cannot be written."""
        path = self._path(cluster)
        try:
            private_folder(path.parent)
            write_whole(path, msgspec.json.encode(groups))
        except OSError as error:
            log.warning("cannot store the lag history %s: %s; other processes do not see it", path, error)

    def _path(self, cluster: str) -> Path:
        return self._folder / f"lag-{_UNSAFE.sub('_', cluster)}.json"


def lag_history(home: HomeSettings | None = None, *, writable: bool = False) -> LagObservations:
    """Return the history of this home folder."""
    return LagObservations((home or HomeSettings()).home / "monitoring", writable=writable)


class LagMonitor:
    """Monitor that measures lag and keeps observations for statuses and trends. Not thread-safe.

    Args:
        brokers: settings of the cluster.
        settings: thresholds.
        history: observations shared with other processes; None uses only those of this monitor.
    """

    def __init__(
        self,
        brokers: BrokerSettings,
        settings: LagSettings | None = None,
        history: LagObservations | None = None,
    ) -> None:
        self.settings: Final = settings or LagSettings()
        self._history = history
        self.cluster: Final = ClusterReader(brokers)
        self.windows: Final[dict[str, GroupWindows]] = {}
        self._committed = CommittedReader(brokers)
        self._ages = TimeLagReader(brokers, self.settings.read_budget_s)
        self._growth = WatermarkHistory()

    def measure(self, group: str, topics: Iterable[str] = ()) -> GroupLag:
        """Return the lag of a group on its committed and assigned topics, and on `topics`.

        Raises:
            GroupNotFoundError: the group does not exist, and no topics are given.
            BrokerError, AuthenticationError: the request to the cluster failed.
        """
        metadata = self.cluster.metadata()
        self._restore(str(metadata.cluster_id))
        return self._measured(group, set(topics), _partitions(metadata))

    def _measured(self, group: str, named: set[str], partitions: Mapping[str, Sequence[int]]) -> GroupLag:
        if not group:
            raise GroupNotFoundError(
                "the name of a consumer group is empty; `coinstream lag` lists the groups"
            )
        state = self.cluster.group(group)
        places = [(topic, number) for topic, numbers in partitions.items() for number in numbers]
        committed = self._committed.read(group, places)
        if not state.exists and not committed and not named:
            raise GroupNotFoundError(
                f"there is no consumer group {group} at {self.cluster.brokers.brokers}: "
                f"it has no member and never committed; {did_you_mean(group, self.cluster.group_names())} "
                "`coinstream lag` lists the groups."
            )
        topics = {topic for topic, _ in committed} | {topic for topic, _ in state.owned} | named
        deleted = tuple(sorted(topics - partitions.keys()))
        self._require_rights(deleted, partitions)
        wanted = [(topic, number) for topic in topics & partitions.keys() for number in partitions[topic]]
        return self._measure(state, committed, wanted, deleted)

    def _require_rights(self, missing: Collection[str], listed: Collection[str]) -> None:
        """Check that missing topics were deleted, and are not hidden by ACLs.

        If no topic is listed, the topics of the catalog are checked.
        """
        if missing or not listed:
            self.cluster.require_topic_rights(missing or [spec.name for spec in market_topics()])

    def measure_all(self) -> list[GroupLag]:
        """Return the lag of every group that has committed or has members.

        Raises:
            BrokerError, AuthenticationError: the cluster cannot be asked.
        """
        metadata = self.cluster.metadata()
        cluster = str(metadata.cluster_id)
        self._restore(cluster)
        partitions = _partitions(metadata)
        found = []
        for name in self.cluster.group_names():
            try:
                found.append(self._measured(name, set(), partitions))
            except GroupNotFoundError:
                continue  # It was deleted between the two requests.
        for gone in self.windows.keys() - {lag.group for lag in found}:
            del self.windows[gone]
        if self._history is not None and self._history.writable:
            self._history.store(cluster, {name: windows.dump() for name, windows in self.windows.items()})
        return found

    def _restore(self, cluster: str) -> None:
        """Load newer observations of other processes."""
        stored = self._history.load(cluster) if self._history is not None else {}
        for group, dumped in stored.items():
            try:
                windows = GroupWindows.load(dumped, self.rules(group))
            except (ValueError, KeyError, TypeError):
                log.warning("the history of group %s has another form; it starts empty", group)
                continue
            known = self.windows.get(group)
            if known is None or (windows.last_poll or 0.0) > (known.last_poll or 0.0):
                self.windows[group] = windows

    def rules(self, group: str) -> EvaluationRules:
        """Return the parameters of the evaluation of this group's partitions."""
        chosen = self.settings
        silence = chosen.batch_silence_s if chosen.is_advanced_by_jobs(group) else chosen.silence_s
        return EvaluationRules(chosen.window, chosen.allowed, silence)

    def _measure(
        self,
        state: GroupState,
        committed: Mapping[PartitionKey, int],
        places: list[PartitionKey],
        deleted: tuple[str, ...],
    ) -> GroupLag:
        marks = self.cluster.watermarks(places)
        now = time.time()
        self._growth.observe(now, marks)
        starts = {place: start_of(committed.get(place), mark.low) for place, mark in marks.items()}
        behind = {place: start for place, start in starts.items() if start < marks[place].high}
        oldest = self._ages.oldest(behind)
        partitions = [
            self._partition(place, committed.get(place), marks[place], state, oldest.get(place), now)
            for place in sorted(marks)
        ]
        return GroupLag(
            state.name,
            state.state,
            state.members,
            now,
            self._evaluated(state, partitions, now),
            deleted,
            tuple(f"{topic}/{number}" for topic, number in sorted(set(places) - marks.keys())),
        )

    def _partition(
        self,
        place: PartitionKey,
        committed: int | None,
        mark: Watermarks,
        state: GroupState,
        oldest: OldestRecord | None,
        now: float,
    ) -> PartitionLag:
        start = start_of(committed, mark.low)
        messages = max(mark.high - start, 0)
        if oldest is not None and oldest.timestamp_ms is None and oldest.end >= mark.high:
            messages = 0  # Only transaction markers and aborted messages are left.
        seconds, source = self._age(place, start, messages, oldest, now)
        return PartitionLag(
            *place,
            committed,
            mark.low,
            mark.high,
            messages,
            seconds,
            source,
            place in state.owned,
            lost=0 if committed is None else max(mark.low - committed, 0),
            remark=_remark(committed, mark),
        )

    def _age(
        self, place: PartitionKey, start: int, messages: int, oldest: OldestRecord | None, now: float
    ) -> tuple[float | None, TimeLagSource]:
        if not messages:
            return 0.0, TimeLagSource.NONE
        if oldest is not None and oldest.timestamp_ms is not None and oldest.timestamp_ms >= 0:
            # The age is negative if an exchange's clock is ahead of this machine's.
            return max(now - oldest.timestamp_ms / 1000, 0.0), TimeLagSource.RECORD
        since = self._growth.passed(place, start)
        return (None, TimeLagSource.UNKNOWN) if since is None else (now - since, TimeLagSource.GROWTH)

    def _evaluated(
        self, state: GroupState, partitions: Sequence[PartitionLag], now: float
    ) -> tuple[PartitionLag, ...]:
        windows = self.windows.setdefault(state.name, GroupWindows(self.rules(state.name)))
        evaluated = windows.observe(now, {part.place: _seen(part, state) for part in partitions})
        return tuple(_with(part, evaluated) for part in partitions)


def _partitions(metadata: ClusterMetadata) -> dict[str, list[int]]:
    """Return the partitions of every topic, without internal topics."""
    return {
        name: list(topic.partitions) for name, topic in metadata.topics.items() if not name.startswith("__")
    }


def _seen(part: PartitionLag, state: GroupState) -> Observation:
    offset = part.low if part.committed is None else part.committed
    return Observation(offset, part.messages, part.owned or state.rebalancing, part.seconds)


def _with(part: PartitionLag, evaluated: Mapping[PartitionKey, Evaluation]) -> PartitionLag:
    one = evaluated[part.place]
    return replace(part, status=one.status, trend=one.trend)


def _remark(committed: int | None, mark: Watermarks) -> str:
    if committed is None:
        return "never committed: counted from the log start"
    if committed < mark.low:
        return f"{mark.low - committed} message(s) were deleted before they were handled"
    if committed > mark.high:
        return (
            f"committed {committed} is beyond the log end {mark.high}: the topic was recreated or truncated"
        )
    return ""
