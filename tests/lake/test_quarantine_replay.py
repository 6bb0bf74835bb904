"""Refused messages are checked again by the present rules, and land once, with their place."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import lz4.frame
import msgspec
import pytest

from coinstream.expectations.validator import ExpectationValidator
from coinstream.lake.backfill import backfill
from coinstream.lake.landing import land
from coinstream.lake.quarantine import MAX_PAYLOAD
from coinstream.lake.quarantine_replay import QuarantineFilter, QuarantineReplay, replay_quarantine
from coinstream.lake.schemas import spec_named
from coinstream.lake.store import Lake
from coinstream.lake.validation import NoValidation
from coinstream.serialization import COMPRESSED_HEADER
from coinstream.settings import BrokerSettings
from tests.command_line import run_cli
from tests.conftest import TopicFactory
from tests.lake.support import level1, places, rows, send, without

SPEC = spec_named("level1")
COMPRESSED = [(COMPRESSED_HEADER, b"true")]


@pytest.fixture
def refused(lake: Lake, broker_settings: BrokerSettings, topic: TopicFactory) -> str:
    """Return a topic of two good quotes, three crossed ones, one without an ask and one that is no JSON."""
    name = topic("level1", partitions=2)
    crossed = [level1(number, bestBid=62000.5) for number in range(3)]
    send(
        broker_settings.brokers,
        name,
        [level1(7), *crossed, without(level1(4), "bestAsk"), b"{", level1(8)],
        timestamp=1_767_607_200_000,
    )
    report = land(lake, broker_settings, SPEC, ExpectationValidator(SPEC), topic=name)
    assert (report.rows, report.refused) == (2, 5)
    return name


def test_messages_that_meet_the_rules_now_are_landed_once(lake: Lake, refused: str) -> None:
    validator = ExpectationValidator(SPEC)
    assert replay_quarantine(lake, SPEC, validator) == QuarantineReplay("level1", selected=5, refused=5)

    def replay(*, dry_run: bool = False) -> QuarantineReplay:
        return replay_quarantine(lake, SPEC, NoValidation(), dry_run=dry_run)

    before = places(lake, "level1")
    dry = replay(dry_run=True)
    assert (dry.selected, dry.landed, dry.refused) == (5, 3, 2)
    assert places(lake, "level1") == before
    assert replay() == dry
    found = places(lake, "level1")
    assert (len(found), set(found.values())) == (5, {1})
    kept = rows(lake, "quarantine")
    assert sorted(row["stored"] for row in kept) == [False, False, True, True, True]
    assert {(row["topic"], row["partition"], row["offset"]) for row in kept if row["stored"]} <= set(found)
    assert replay() == QuarantineReplay("level1", selected=2, refused=2)


def test_a_replay_does_not_disturb_landing(lake: Lake, broker_settings: BrokerSettings, refused: str) -> None:
    replay_quarantine(lake, SPEC, NoValidation())
    send(broker_settings.brokers, refused, [level1(9), level1(10, bestBid=62000.5)])
    report = land(lake, broker_settings, SPEC, ExpectationValidator(SPEC), topic=refused)
    assert (report.messages, report.rows, report.refused) == (2, 1, 1)
    assert len(rows(lake, "quarantine")) == 6


def test_messages_are_selected_by_reason_time_and_number(lake: Lake, refused: str) -> None:
    def selected(**wanted: object) -> int:
        chosen = QuarantineFilter(**wanted)  # type: ignore[arg-type]
        return replay_quarantine(lake, SPEC, NoValidation(), chosen, dry_run=True).selected

    assert selected(reason="BID_AT_MOST") == 3
    assert selected(reason="not JSON") == 1
    assert selected(limit=2) == 2
    now = datetime.now(UTC)
    assert selected(since=now - timedelta(hours=1)) == 5
    assert selected(since=now + timedelta(hours=1)) == 0


def test_what_the_table_has_is_marked_and_not_landed_again(
    lake: Lake, broker_settings: BrokerSettings, refused: str
) -> None:
    hour = datetime(2026, 1, 5, 10, tzinfo=UTC)
    again = backfill(lake, broker_settings, SPEC, hour, hour + timedelta(hours=1), topic=refused)
    assert again.rows == 3
    done = replay_quarantine(lake, SPEC, NoValidation())
    assert (done.landed, done.present, done.refused) == (0, 3, 2)
    assert sorted(row["stored"] for row in rows(lake, "quarantine")) == [False, False, True, True, True]
    assert set(places(lake, "level1").values()) == {1}


def test_compressed_values_are_read_and_cut_ones_are_told(
    lake: Lake, broker_settings: BrokerSettings, topic: TopicFactory
) -> None:
    name = topic("level1")
    crossed = level1(0, bestBid=62000.5)
    packed = lz4.frame.compress(msgspec.json.encode(crossed))
    long = level1(1, bestBid=62000.5, note="x" * MAX_PAYLOAD)
    send(broker_settings.brokers, name, [packed], headers=COMPRESSED)
    send(broker_settings.brokers, name, [long])
    report = land(lake, broker_settings, SPEC, ExpectationValidator(SPEC), topic=name)
    assert report.refused == 2
    done = replay_quarantine(lake, SPEC, NoValidation())
    assert (done.selected, done.landed, done.incomplete, done.refused) == (2, 1, 1, 0)
    [row] = rows(lake, "level1")
    assert float(row["best_bid"]) == 62000.5


def test_the_command_lists_and_replays_refused_messages(
    lake: Lake, refused: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = {"COINSTREAM_HOME": str(lake.folder.parent)}

    def ran(*words: str) -> dict[str, Any]:
        result = run_cli("lake", "quarantine", *words, "--json", environment=home)
        assert result.exit_code == 0, result.output
        return dict(json.loads(result.stdout))

    listed = ran("list", "level1", "--limit", "2")
    assert (listed["entries"], listed["waiting"], len(listed["newest"])) == (5, 5, 2)
    assert listed["reasons"]["bid_at_most_ask"] == 3
    assert {one["time"] for one in listed["newest"]} == {"2026-01-05T10:00:00.000Z"}
    assert ran("list", "price")["entries"] == 0
    assert ran("list", "--since", "2100-01-01T00:00:00Z")["entries"] == 0
    assert ran("replay", "level1")["refused"] == 5, "by the current rules"

    monkeypatch.setattr("coinstream.expectations.validator.ExpectationValidator", lambda *_: NoValidation())
    dry = ran("replay", "level1", "--reason", "bid_at_most", "--dry-run")
    assert (dry["dry_run"], dry["selected"], dry["landed"]) == (True, 3, 3)
    assert len(places(lake, "level1")) == 2
    assert ran("replay", "level1", "--reason", "bid_at_most", "--limit", "2")["landed"] == 2
    assert len(places(lake, "level1")) == 4
    shown = run_cli("lake", "quarantine", "list", environment=home).stdout
    assert "5 refused message(s), of which 2 are stored after a replay." in shown
    assert f"{refused}[" in shown


@pytest.mark.parametrize(
    ("words", "exit_code", "told"),
    [
        (("replay", "levl1"), 1, "did you mean level1?"),
        (("replay", "level1", "--since", "yesterday"), 2, 'invalid time "yesterday"'),
        (("replay",), 2, "Missing argument"),
    ],
)
def test_the_command_refuses_invalid_arguments(
    lake: Lake, words: tuple[str, ...], exit_code: int, told: str
) -> None:
    home = {"COINSTREAM_HOME": str(lake.folder.parent)}
    result = run_cli("lake", "quarantine", *words, environment=home)
    assert result.exit_code == exit_code
    assert told in result.output
