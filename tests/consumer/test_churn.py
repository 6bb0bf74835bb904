"""Test groups whose members join, leave and are killed under load."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from coinstream.client import RedpandaClient
from coinstream.settings import BrokerSettings
from tests.conftest import TopicFactory
from tests.consumer.common import quote
from tests.support import unique, wait_until

pytestmark = pytest.mark.system

Committed = Callable[[str, str, int], dict[int, int]]
PARTITIONS = 48
SYMBOLS = 200
KILLS = 4
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Handled:
    at: int
    partition: int
    offset: int
    number: int
    symbol: str


class Crew:
    """Member processes and what each has handled."""

    def __init__(self, bootstrap: str, topic: str, group: str, folder: Path) -> None:
        self._words = (bootstrap, topic, group)
        self._folder = folder
        self._count = itertools.count()
        self.running: dict[Path, subprocess.Popen[bytes]] = {}
        self.files: list[Path] = []
        self._seen: dict[Path, tuple[list[Handled], int]] = {}

    def join(self) -> Path:
        file = self._folder / f"member-{next(self._count)}"
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "platform"), str(ROOT)])}
        self.running[file] = subprocess.Popen(
            [sys.executable, "-m", "tests.consumer.member_process", *self._words, str(file)],
            env=environment,
            cwd=ROOT,
        )
        self.files.append(file)
        return file

    def end(self, file: Path, how: signal.Signals) -> None:
        process = self.running.pop(file)
        process.send_signal(how)
        code = process.wait(120)
        assert code == (-how if how is signal.SIGKILL else 0)

    def close(self) -> None:
        for process in self.running.values():
            process.kill()
            process.wait()

    def handled(self, *files: Path) -> list[Handled]:
        """Return what these (or all) have handled so far."""
        return list(itertools.chain.from_iterable(map(self._read, files or self.files)))

    def _read(self, file: Path) -> list[Handled]:
        found, at = self._seen.setdefault(file, ([], 0))
        if not file.exists():
            return found
        with file.open("rb") as stream:
            stream.seek(at)
            # A line without its end is being written.
            whole = stream.read().rpartition(b"\n")[0]
        lines = [line.split(" ") for line in whole.decode().splitlines()]
        found += [
            Handled(int(moment), int(partition), int(offset), int(number), symbol)
            for moment, partition, offset, number, symbol in lines
        ]
        self._seen[file] = (found, at + len(whole) + bool(whole))
        return found


@contextmanager
def load(client: RedpandaClient, topic: str) -> Iterator[Callable[[], int]]:
    """Quotes are sent until the block ends; gives how many were sent."""
    stop, sent = threading.Event(), itertools.count()
    total = 0

    def produce() -> None:
        nonlocal total
        while not stop.is_set():
            numbers = list(itertools.islice(sent, 100))
            client.produce(topic, [quote(number, f"S{number % SYMBOLS}/USDT") for number in numbers])
            total += len(numbers)
            stop.wait(0.04)
        client.flush()

    thread = threading.Thread(target=produce)
    thread.start()
    try:
        yield lambda: total
    finally:
        stop.set()
        thread.join()


@pytest.mark.slow
def test_members_that_come_go_and_are_killed_lose_nothing(
    client: RedpandaClient,
    broker_settings: BrokerSettings,
    topic: TopicFactory,
    committed: Committed,
    tmp_path: Path,
) -> None:
    name, group = topic("crypto-level1", partitions=PARTITIONS), unique("group")
    crew = Crew(broker_settings.brokers, name, group, tmp_path)
    uncommitted = 0
    try:
        with load(client, name) as sent:
            for _ in range(3):
                crew.join()
            wait_until(lambda: all(crew.handled(file) for file in crew.files), 300, "all three have work")
            for kill in range(KILLS):
                victim = max(crew.running, key=lambda file: len(crew.handled(file)))
                crew.end(victim, signal.SIGKILL)
                # Until its session ends its partitions have no other member: these messages are uncommitted.
                offsets = committed(group, name, PARTITIONS)
                uncommitted += sum(
                    each.offset >= max(offsets[each.partition], 0) for each in set(crew.handled(victim))
                )
                newcomer = crew.join()
                wait_until(partial(crew.handled, newcomer), 300, "the newcomer has work")
                if kill == 1:
                    crew.end(newcomer, signal.SIGTERM)
                    crew.join()
        total = sent()
        wait_until(lambda: len({each.number for each in crew.handled()}) >= total, 300, "all is handled")
        for file in list(crew.running):
            crew.end(file, signal.SIGTERM)
    finally:
        crew.close()
    everything = sorted(crew.handled(), key=lambda each: each.at)
    check(everything, total, uncommitted)
    # The last ones left in good order.
    assert sum(max(offset, 0) for offset in committed(group, name, PARTITIONS).values()) == total


def check(everything: list[Handled], total: int, uncommitted: int) -> None:
    times = Counter(each.number for each in everything)
    assert times.keys() == set(range(total))
    duplicates = sum(times.values()) - total
    print(f"{total} messages, {duplicates} handled again, {uncommitted} uncommitted at {KILLS} kills")
    assert duplicates <= uncommitted
    seen: set[int] = set()
    by_key: dict[str, list[int]] = defaultdict(list)
    for each in everything:
        if each.number not in seen:
            seen.add(each.number)
            by_key[each.symbol].append(each.number)
    assert all(numbers == sorted(numbers) for numbers in by_key.values())
    assert time.monotonic_ns() > everything[-1].at
