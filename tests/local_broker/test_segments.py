"""Damage in Kafka's logs is found before Kafka cuts off what follows it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import Producer

from coinstream.errors import LocalBrokerError
from coinstream.local_broker import LocalBroker
from coinstream.local_broker.segments import METADATA_LOG, find_damage
from tests.conftest import topic_factory
from tests.local_broker.reading import read_all

pytestmark = pytest.mark.system

COUNT = 500


class Kept:
    """A home with one topic of `COUNT` messages, whose broker was killed: its log has no clean end."""

    def __init__(self, home: Path) -> None:
        self.home = home
        with LocalBroker(home, port=0) as broker:
            self.topic = topic_factory(broker.bootstrap)("kept")
            producer = Producer({"bootstrap.servers": broker.bootstrap})
            for number in range(COUNT):
                producer.produce(self.topic, f"{number:0>100}".encode())
                if number % 50 == 0:
                    producer.flush(20)
            assert producer.flush(20) == 0
            self.data = broker.nodes[0].plan.data
            broker.nodes[0].kill()

    def log(self, folder: str) -> Path:
        return max((self.data / folder).glob("*.log"))


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    return Kept(tmp_path_factory.mktemp("kept"))


@pytest.fixture
def segment(original: Kept) -> Path:
    return original.log(f"{original.topic}-0")


@pytest.fixture
def copy(original: Kept, tmp_path: Path) -> Callable[[Path], tuple[Path, Path]]:
    """Return a data folder with a copy of one log alone: the folder, and the copy."""

    def make(log: Path) -> tuple[Path, Path]:
        target = tmp_path / log.parent.name / log.name
        target.parent.mkdir()
        target.write_bytes(log.read_bytes())
        return tmp_path, target

    return make


def overwrite(path: Path, position: int, content: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(position)
        file.write(content)


def test_an_unclean_end_alone_is_no_damage(original: Kept) -> None:
    assert find_damage(original.data) is None


@pytest.mark.parametrize("cut", [1, 20, 70, 200])
def test_a_torn_end_is_no_damage(segment: Path, copy: Callable[[Path], tuple[Path, Path]], cut: int) -> None:
    data, log = copy(segment)
    os.truncate(log, log.stat().st_size - cut)
    assert find_damage(data) is None


def test_room_that_was_never_written_is_no_damage(
    segment: Path, copy: Callable[[Path], tuple[Path, Path]]
) -> None:
    data, log = copy(segment)
    os.truncate(log, log.stat().st_size + 4096)
    assert find_damage(data) is None


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6])
def test_garbage_in_a_topic_is_found_where_it_starts_to_hurt(
    segment: Path, copy: Callable[[Path], tuple[Path, Path]], share: float
) -> None:
    data, log = copy(segment)
    position = int(log.stat().st_size * share)
    # As long as a batch, so that the garbage covers the head of one.
    overwrite(log, position, b"\xff" * 6000)
    damage = find_damage(data)
    assert damage is not None
    assert damage.path == log
    assert position - 6000 <= damage.position <= position + 6000


def test_a_single_flipped_bit_in_the_metadata_is_found(
    original: Kept, copy: Callable[[Path], tuple[Path, Path]]
) -> None:
    data, log = copy(original.log(METADATA_LOG))
    content = bytearray(log.read_bytes())
    content[len(content) // 2] ^= 1
    log.write_bytes(content)
    damage = find_damage(data)
    assert damage is not None
    assert damage.path == log


def test_a_broker_refuses_damage_and_says_how_to_go_on(original: Kept) -> None:
    segment = original.log(f"{original.topic}-0")
    whole = segment.read_bytes()
    overwrite(segment, 0, b"\xff" * 500)
    with pytest.raises(LocalBrokerError, match=r"corrupt.*truncate -s 0 .*\.log"):
        LocalBroker(original.home, port=0).start()
    metadata = original.log(METADATA_LOG)
    good = metadata.read_bytes()
    segment.write_bytes(whole)
    overwrite(metadata, 0, b"\xff" * 500)
    with pytest.raises(LocalBrokerError, match=r"corrupt.*without its topics"):
        LocalBroker(original.home, port=0).start()
    metadata.write_bytes(good)
    with LocalBroker(original.home, port=0) as broker:
        assert len(read_all(broker.bootstrap, original.topic, COUNT)) == COUNT
