"""Brokers die, restart, freeze and come back while messages are sent; nothing acknowledged is lost."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest

from coinstream.client import RedpandaClient
from coinstream.errors import CoinstreamError
from coinstream.local_broker import LocalBroker
from coinstream.settings import BrokerSettings, ProducerSettings
from tests.conftest import TopicFactory
from tests.faults.conftest import Check, Watch
from tests.faults.delivery_check import Sent
from tests.faults.load import EXCHANGE, KEPT, Load, message, numbered, outcomes
from tests.faults.slow import SlowNetwork, Weather
from tests.support import wait_until

# Brokers start and replicas catch up several times in each, which takes a while on a busy machine.
pytestmark = [pytest.mark.system, pytest.mark.timeout(1200)]

PATIENCE_S = 120
"""The delivery timeout: a broker that is frozen is only known by requests that time out."""

MORE = 500
"""Messages that are sent between two events."""


def wait_for_more(load: Load, count: int = MORE) -> None:
    """Wait until the cluster has acknowledged `count` further messages."""
    goal = load.acknowledged + count
    wait_until(lambda: load.acknowledged >= goal, PATIENCE_S, f"{count} more acknowledgements come")


def test_leader_killed_under_load(
    cluster3: LocalBroker, topic3: TopicFactory, watch: Watch, check: Check
) -> None:
    topic = topic3("killed", partitions=6, config=KEPT)
    with Load(cluster3.bootstrap, topic) as load:
        wait_for_more(load)
        leader = watch.leader(topic)
        leader.kill()
        wait_for_more(load)
        leader.start()
        watch.restored(topic)
        wait_for_more(load)
        acknowledged = load.finish()
    check(topic, acknowledged)


def test_rolling_restart_under_load(
    cluster3: LocalBroker, topic3: TopicFactory, watch: Watch, check: Check
) -> None:
    topic = topic3("rolling", partitions=6, config=KEPT)
    with Load(cluster3.bootstrap, topic) as load:
        for node in cluster3.nodes:
            wait_for_more(load)
            node.terminate()
            node.wait(30)
            node.start()
            watch.restored(topic)
        acknowledged = load.finish()
    check(topic, acknowledged)


def test_paused_leader_under_load(
    cluster3: LocalBroker, topic3: TopicFactory, watch: Watch, check: Check
) -> None:
    topic = topic3("paused", partitions=6, config=KEPT)
    with Load(cluster3.bootstrap, topic) as load:
        wait_for_more(load)
        leader = watch.leader(topic)
        leader.pause()
        try:
            wait_until(lambda: watch.leader(topic) is not leader, 300, "another node leads")
            wait_for_more(load)
        finally:
            leader.resume()
        watch.restored(topic)
        wait_for_more(load)
        acknowledged = load.finish()
    check(topic, acknowledged)


def test_two_of_three_down(cluster3: LocalBroker, topic3: TopicFactory, watch: Watch, check: Check) -> None:
    topic = topic3("minority", partitions=3, config=KEPT)
    settings = ProducerSettings(delivery_timeout_ms=4000, retries=1)
    client = RedpandaClient(BrokerSettings(brokers=cluster3.bootstrap), settings)

    def send(start: int) -> tuple[set[Sent], dict[Sent, CoinstreamError]]:
        chunk = numbered(start)
        futures = {sent: client.send(topic, f"{EXCHANGE}-{sent.symbol}", message(sent)) for sent in chunk}
        return outcomes(futures, 60)

    before, refused = send(0)
    assert not refused
    down = cluster3.nodes[1:]
    for node in down:
        node.kill()
    during, refused = send(100)
    assert not during, "a write was acknowledged by one broker of three"
    assert all(topic in str(error) for error in refused.values())
    for node in down:
        node.start()
    watch.restored(topic)
    # The same client goes on by itself.
    after, refused = send(200)
    assert not refused
    client.close()
    check(topic, sorted(before | after))


def test_slow_and_lossy_network(
    cluster3: LocalBroker, topic3: TopicFactory, network: SlowNetwork, check: Check
) -> None:
    topic = topic3("slow", partitions=6, config=KEPT)
    with Load(network.bootstrap, topic) as load:
        wait_for_more(load)
        network.weather = Weather(delay_s=0.02, stall=0.05, cut=0.01)
        try:
            wait_for_more(load)
            wait_until(lambda: network.cuts and network.stalls, what="the network has shown its faults")
        finally:
            network.weather = Weather()
        wait_for_more(load)
        acknowledged = load.finish()
    check(topic, acknowledged)


def test_full_disk_under_load(
    cluster3: LocalBroker, topic3: TopicFactory, watch: Watch, small_disk: Path | None, check: Check
) -> None:
    if small_disk is None:
        pytest.skip("mounting a small file system is not permitted here")
    topic = topic3("full", partitions=6, config=KEPT)
    node, balloon = cluster3.nodes[2], small_disk / "balloon"
    with Load(cluster3.bootstrap, topic) as load:
        wait_for_more(load)
        fill(balloon)
        wait_until(lambda: node.died, 300, "the node with the full disk has stopped")
        assert "no space is left" in node.exit_reason()
        wait_for_more(load)
        balloon.unlink()
        node.start()
        watch.restored(topic)
        wait_for_more(load)
        acknowledged = load.finish()
    check(topic, acknowledged)


def fill(balloon: Path) -> None:
    """Write until the disk is full."""
    with balloon.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
