"""Provide fixtures to all tests: a real broker, a three-node cluster and unique topics."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Generator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import hypothesis
import pytest
from confluent_kafka.admin import AdminClient

from coinstream.local_broker import LocalBroker
from coinstream.settings import BrokerSettings
from tests.cluster import cluster3 as cluster3
from tests.cluster import network as network
from tests.cluster import small_disk as small_disk
from tests.cluster import started_cluster as started_cluster
from tests.cluster import topic3 as topic3
from tests.running_up import RunningUp
from tests.support import READY_TIMEOUT_S, first_alone, restore_sigint
from tests.topics_on import TopicFactory as TopicFactory
from tests.topics_on import topic_factory as topic_factory

restore_sigint()

ROOT = Path(__file__).resolve().parent.parent
# Processes that tests start run the code of this very checkout, whatever is installed.
os.environ["PYTHONPATH"] = os.pathsep.join(
    [str(ROOT / "platform"), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
)
# pytest imports readline, which sets the size of a terminal in the environment of xdist's workers.
for name in ("COLUMNS", "LINES"):
    os.environ.pop(name, None)
# Tests land past hours, also where the platform was never used before.
os.environ.setdefault("COINSTREAM_LAKE_FIRST_HOUR", f"{datetime.now(UTC) - timedelta(days=2):%Y-%m-%d-%H:00}")
# Brokers of tests live for seconds: compiling their code well would take longer than they run.
os.environ.setdefault("COINSTREAM_BROKER_JAVA_OPTIONS", "-XX:TieredStopAtLevel=1")

# A loaded machine is no reason to fail: properties are about rules, not about time. `make test-all` runs
# them with --hypothesis-profile full.
hypothesis.settings.register_profile(
    "fast", max_examples=25, deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.register_profile(
    "full", hypothesis.settings.get_profile("fast"), max_examples=200, print_blob=True
)
hypothesis.settings.load_profile("fast")

SLOW_FIRST = (
    *("faults", "benchmarks", "lake", "browser", "docs", "security", "orchestration", "sensors"),
    *("monitoring", "dlq", "feeds", "consumer", "fuzz"),
)
"""Folders whose tests take long. They begin, so that short ones are left when one process has no more."""

KEEP = {"log.retention.check.interval.ms": "86400000"}
"""Settings of the shared broker: it deletes nothing within a session, since recordings are years old."""

SYSTEM_FIXTURES = frozenset({"up", "started_cluster", "compose_loader"})
"""Fixtures that start a whole stack, start a three-node cluster or build a Go program: their tests are system
tests."""

STACK_TIMEOUT_S = 1200
"""Longest time of a test that uses one of them, its fixtures included."""

SHARED_FIXTURES = ("up", "started_cluster", "secured")
"""Fixtures that start brokers: all their tests run in one process, which starts each of them once."""


def pytest_configure(config: pytest.Config) -> None:
    """Give this process of the test run its own home, before modules are collected that read it.

    In a shared home, leases and status files of feeds would be those of other processes, and of the user.
    """
    home = TemporaryDirectory(prefix="coinstream-tests-", ignore_cleanup_errors=True)
    os.environ["COINSTREAM_HOME"] = str(Path(home.name) / "home")
    config.add_cleanup(home.cleanup)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Compile the test modules in one process of xdist only, while `make lint` uses the other core.

    All that is collected stays until the end. To search it for garbage would take a third of the time of the
    collection, and more during the tests.
    """
    gc.disable()
    try:
        with first_alone(Path(__file__)):
            return (yield)
    finally:
        gc.freeze()
        gc.enable()


# Before pytest's own hook, which deselects by markers, and xdist's, which reads groups.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark users of costly fixtures, group tests for the processes of xdist, and put slow folders first."""
    for item in items:
        fixtures: set[str] = set(getattr(item, "fixturenames", ()))
        if SYSTEM_FIXTURES & fixtures:
            item.add_marker(pytest.mark.system)
            # The first of them waits for the whole stack.
            item.add_marker(pytest.mark.timeout(STACK_TIMEOUT_S))
        if item.get_closest_marker("xdist_group") is None:
            file = item.path.relative_to(ROOT).as_posix()
            group = next((name for name in SHARED_FIXTURES if name in fixtures), file)
            item.add_marker(pytest.mark.xdist_group(group))
    items.sort(key=lambda item: _turn(item.path.parent.name))


def _turn(folder: str) -> int:
    return SLOW_FIRST.index(folder) if folder in SLOW_FIRST else len(SLOW_FIRST)


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalBroker]:
    """One node, on free ports, for the whole session. `broker.bootstrap` is its address."""
    home = tmp_path_factory.mktemp("broker")
    with LocalBroker(home, nodes=1, port=0, properties=KEEP, ready_timeout_s=READY_TIMEOUT_S) as local:
        yield local


@pytest.fixture(scope="session")
def broker_settings(broker: LocalBroker) -> BrokerSettings:
    """Return settings that lead to `broker`."""
    return BrokerSettings(brokers=broker.bootstrap)


@pytest.fixture(scope="session")
def large_topics() -> list[str]:
    """Topics of the running test that are too large to stay."""
    return []


@pytest.fixture(scope="session")
def topic(broker: LocalBroker, large_topics: list[str]) -> TopicFactory:
    """Return a function that creates topics with unique names on `broker` and waits for their leaders."""
    return topic_factory(broker.bootstrap, large_topics)


@pytest.fixture(autouse=True)
def _large_topics_go(request: pytest.FixtureRequest, large_topics: list[str]) -> Iterator[None]:
    yield
    if large_topics:
        broker: LocalBroker = request.getfixturevalue("broker")
        admin = AdminClient({"bootstrap.servers": broker.bootstrap})
        # The test may have deleted its topics itself.
        left = [name for name in large_topics if name in admin.list_topics(timeout=30).topics]
        large_topics.clear()
        for deleted in admin.delete_topics(left).values() if left else ():
            deleted.result(60)


@pytest.fixture(scope="session")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningUp]:
    """One `coinstream up` for the session, ready, with its first runs behind it."""
    running = RunningUp(tmp_path_factory.mktemp("up") / "home")
    try:
        running.wait_for("quotes landed, candles built")
        yield running
    finally:
        if running.process.is_running():
            running.end_by(signal.SIGTERM)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a home of the test's own, also for processes that it starts."""
    monkeypatch.setenv("COINSTREAM_HOME", str(tmp_path / "home"))
    return tmp_path / "home"
