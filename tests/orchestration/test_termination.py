"""A feed run that a user terminates has flushed what it took, and says what it brought."""

from collections.abc import Iterator
from typing import Any

import pytest

from coinstream.local_broker import require_broker
from coinstream.settings import BrokerSettings, HomeSettings
from coinstream.stack.process import DagsterClient
from tests.orchestration.test_assets import counted
from tests.running_up import RunningUp
from tests.support import wait_until

pytestmark = [pytest.mark.system, pytest.mark.timeout(1800)]

TOPICS = ("crypto-level1", "crypto-prices", "crypto-ohlcv", "crypto-trades", "crypto-feeds.dlq")
_CONFIG = {"duration_s": 600.0, "speed": 20.0, "loop": True}
_TERMINATE = "mutation ($id: String!) { terminateRun(runId: $id) { __typename } }"
_STATUS = "query ($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }"
_EVENTS = """query ($id: ID!) { logsForRun(runId: $id, limit: 1000) { ... on EventConnection { events {
  __typename ... on ObservationEvent { assetKey { path } metadataEntries { label
  ... on IntMetadataEntry { intRepr } } } } } } }"""


@pytest.fixture
def web(up: RunningUp) -> Iterator[DagsterClient]:
    opened = up.wait_ready()
    yield opened
    opened.close()


def test_a_terminated_feed_run_loses_nothing(up: RunningUp, web: DagsterClient) -> None:
    brokers = require_broker(BrokerSettings(), HomeSettings(home=up.home)).brokers

    def counts() -> dict[str, int]:
        return {topic: counted(brokers, topic) for topic in TOPICS}

    before = counts()
    config = {"ops": {"feeds__market_data": {"config": _CONFIG}}}
    run_id = web.launch("run_feed", config=config, tags={"dagster/partition": "binance"})
    wait_until(lambda: counts()["crypto-level1"] > before["crypto-level1"], 600, what="messages flow")
    assert web.ask(_TERMINATE, id=run_id)["terminateRun"]["__typename"] == "TerminateRunSuccess"
    wait_until(lambda: _status(web, run_id) == "CANCELED", 300, what="the run is canceled")

    after = counts()
    assert reported(web, run_id) == {
        topic: after[topic] - before[topic] for topic in TOPICS if after[topic] > before[topic]
    }


def _status(web: DagsterClient, run_id: str) -> str:
    return str(web.ask(_STATUS, id=run_id)["runOrError"]["status"])


def reported(web: DagsterClient, run_id: str) -> dict[str, int]:
    """Messages by topic, as the run observed them."""
    events: list[dict[str, Any]] = web.ask(_EVENTS, id=run_id)["logsForRun"]["events"]
    return {
        event["assetKey"]["path"][-1]: int(entry["intRepr"])
        for event in events
        if event["__typename"] == "ObservationEvent"
        for entry in event["metadataEntries"]
        if entry["label"] == "messages"
    }
