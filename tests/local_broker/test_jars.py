"""Only jars with the locked bytes are run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from coinstream.errors import LocalBrokerError
from coinstream.local_broker.jars import LockedJar, classpath, jar_cache, read_lock, sha256_of

SMALL = "org.jspecify:jspecify:1.0.0"


class Watcher:
    """A progress that notes what was fetched."""

    def __init__(self) -> None:
        self.names: list[str] = []

    @contextmanager
    def __call__(self, _count: int, _folder: Path) -> Iterator[Callable[[str, int], None]]:
        yield lambda name, _: self.names.append(name)


@pytest.fixture
def jar() -> LockedJar:
    (found,) = [jar for jar in read_lock() if jar.coordinate == SMALL]
    return found


def test_every_jar_is_locked_and_has_the_locked_bytes() -> None:
    lock = read_lock()
    assert any(jar.coordinate.startswith("org.apache.kafka:kafka_2.13:4.3") for jar in lock)
    assert all(len(jar.sha256) == 64 for jar in lock)
    assert [sha256_of(path) for path in classpath()] == [jar.sha256 for jar in lock]
    assert all(path.is_relative_to(jar_cache()) for path in classpath())


def test_a_missing_jar_is_fetched_and_a_damaged_one_again(tmp_path: Path, jar: LockedJar) -> None:
    first, second, third = Watcher(), Watcher(), Watcher()
    (path,) = classpath(tmp_path, first, [jar])
    path.write_bytes(path.read_bytes()[:-100])
    classpath(tmp_path, second, [jar])
    assert sha256_of(path) == jar.sha256
    classpath(tmp_path, third, [jar])
    assert [first.names, second.names, third.names] == [[path.name], [path.name], []]


def test_bytes_that_the_lock_does_not_name_are_removed_unused(tmp_path: Path, jar: LockedJar) -> None:
    with pytest.raises(LocalBrokerError, match=f"{SMALL} has SHA-256 {jar.sha256}, but the lock says 0000"):
        classpath(tmp_path, Watcher(), [replace(jar, sha256="0" * 64)])
    assert not (tmp_path / jar.relative_path).exists()


def test_a_folder_that_cannot_hold_jars_is_named(tmp_path: Path, jar: LockedJar) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(LocalBrokerError, match=r"cannot store the jars of Kafka in .*file.*XDG_CACHE_HOME"):
        classpath(tmp_path / "file" / "cache", Watcher(), [jar])
