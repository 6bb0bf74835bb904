"""Fixtures for all tests: a real broker, a cluster of three nodes, topics of a test's own."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from confluent_kafka.admin import AdminClient, NewTopic
from xdist.scheduler import LoadFileScheduling

from coinstream.local_broker import LocalBroker
from coinstream.settings import BrokerSettings
from tests.running_up import RunningUp
from tests.support import restore_sigint, unique, wait_until

restore_sigint()

ROOT = Path(__file__).resolve().parent.parent
# Processes that tests start run the code of this very checkout, whatever is installed.
os.environ["PYTHONPATH"] = os.pathsep.join(
    [str(ROOT / "platform"), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
)
# Brokers of tests live for seconds: compiling their code well would take longer than they run.
os.environ.setdefault("COINSTREAM_BROKER_JAVA_OPTIONS", "-XX:TieredStopAtLevel=1")

# A loaded machine is no reason to fail: properties are about rules, not about time.
hypothesis.settings.register_profile(
    "coinstream", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("coinstream")

SLOW_FIRST = ("faults", "browser", "orchestration", "sensors", "docs")
"""Folders whose tests wait long. They begin, so that short ones are left when one process has no more."""

WITH_UP = ("test_web_ui.py", "orchestration/test_up.py", "orchestration/test_termination.py")
"""Files whose tests look at the fixture `up`, which takes a minute to start."""

TopicFactory = Callable[..., str]
"""`topic(name="t", partitions=1, replication=None, config=None)` creates a topic; gives its unique name."""


SYSTEM_FIXTURES = frozenset({"up", "cluster3", "topic3"})
"""Fixtures that start a whole stack or a three-node cluster: their tests are system tests."""


# Before pytest's own hook, which deselects by markers.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the users of costly fixtures as system tests, and put slow folders first."""
    for item in items:
        if SYSTEM_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.system)
    items.sort(key=lambda item: _turn(item.path.parent.name))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """How processes share the tests: file by file; the files that look at one `up` are one."""
    sharing = LoadFileScheduling(config, log)
    sharing._split_scope = _shared
    return sharing


def _shared(nodeid: str) -> str:
    file = nodeid.split("::", 1)[0]
    return "up" if file.endswith(WITH_UP) else file


def _turn(folder: str) -> int:
    return SLOW_FIRST.index(folder) if folder in SLOW_FIRST else len(SLOW_FIRST)


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalBroker]:
    """One node, on free ports, for the whole session. `broker.bootstrap` is its address."""
    with LocalBroker(tmp_path_factory.mktemp("broker"), nodes=1, port=0) as local:
        yield local


@pytest.fixture(scope="module")
def cluster3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalBroker]:
    """Three nodes that a fault test may kill, pause and start again: `cluster3.nodes[i].kill()`."""
    with LocalBroker(tmp_path_factory.mktemp("cluster"), nodes=3, port=0, heap_mb=384) as local:
        yield local


@pytest.fixture(scope="session")
def broker_settings(broker: LocalBroker) -> BrokerSettings:
    """Settings that lead to `broker`."""
    return BrokerSettings(brokers=broker.bootstrap)


@pytest.fixture(scope="session")
def topic(broker: LocalBroker) -> TopicFactory:
    """Creates topics on `broker`, each with a name of its own, and waits until they can be used."""
    return topic_factory(broker.bootstrap)


@pytest.fixture(scope="module")
def topic3(cluster3: LocalBroker) -> TopicFactory:
    """The same on `cluster3`."""
    return topic_factory(cluster3.bootstrap)


def topic_factory(bootstrap: str) -> TopicFactory:
    """A function that creates topics on the cluster at `bootstrap`."""
    admin = AdminClient({"bootstrap.servers": bootstrap})

    def create(
        name: str = "topic",
        partitions: int = 1,
        replication: int | None = None,
        config: dict[str, str] | None = None,
    ) -> str:
        wanted = unique(name)
        new = NewTopic(
            wanted,
            num_partitions=partitions,
            # -1: the broker's default, which is its count of nodes.
            replication_factor=replication if replication is not None else -1,
            # Kept for ever: the broker goes by a message's own time, and recordings are old.
            config={"retention.ms": "-1", **(config or {})},
        )
        admin.create_topics([new])[wanted].result(30)
        wait_until(lambda: _has_leaders(admin, wanted, partitions), what=f"topic {wanted} has its leaders")
        return wanted

    return create


def _has_leaders(admin: AdminClient, topic: str, partitions: int) -> bool:
    found = admin.list_topics(topic, timeout=10).topics[topic].partitions
    return len(found) == partitions and all(part.leader >= 0 for part in found.values())


@pytest.fixture(scope="session")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningUp]:
    """One `coinstream up` for the session, ready, with its first runs behind it."""
    running = RunningUp(tmp_path_factory.mktemp("up") / "home")
    try:
        running.wait_for("tables and candles hold them too")
        yield running
    finally:
        if running.process.is_running():
            running.end_by(signal.SIGTERM)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of the test's own, also for processes that it starts."""
    monkeypatch.setenv("COINSTREAM_HOME", str(tmp_path / "home"))
    return tmp_path / "home"
