"""The archive of Kafka's classes is made once, fits Java, and is no condition of a start."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest
from filelock import FileLock

from coinstream.local_broker import jars
from coinstream.local_broker.storage import archive_options
from scripts.class_list import shortened


def fake_java(folder: Path, script: str) -> Path:
    """Return a program that stands for Java in a runtime of its own."""
    java = folder / "runtime" / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text(f"#!/bin/sh\n{script}\n")
    java.chmod(0o700)
    (folder / "runtime" / "release").write_text("JAVA_VERSION=1")
    return java


MAKES = (
    'for word; do case $word in *ArchiveFile=*) echo made > "${word#*=}";; esac; done; echo $$ >> "$0.runs"'
)


def test_the_archive_is_made_once_for_each_java_and_jars(tmp_path: Path) -> None:
    java, jar, cache = fake_java(tmp_path, MAKES), tmp_path / "kafka.jar", tmp_path / "cache"
    cache.mkdir()
    jar.write_bytes(b"one")
    first = archive_options(java, [jar], cache)
    assert archive_options(java, [jar], cache) == first
    assert len(Path(f"{java}.runs").read_text().split()) == 1
    assert Path(first[0].partition("=")[2]).read_text() == "made\n"
    jar.write_bytes(b"another")
    assert archive_options(java, [jar], cache) != first


def test_an_unused_archive_is_removed(tmp_path: Path) -> None:
    java, cache = fake_java(tmp_path, MAKES), tmp_path / "cache"
    cache.mkdir()
    unused, used = cache / "kafka-0123456789abcdef.jsa", cache / "kafka-fedcba9876543210.jsa"
    for path in (unused, used):
        path.write_bytes(b"")
    long_ago = time.time() - 40 * 86_400
    os.utime(unused, (long_ago, long_ago))
    archive_options(java, [], cache)
    assert not unused.exists()
    assert used.exists()


def test_java_starts_without_an_archive_that_cannot_be_made(tmp_path: Path) -> None:
    assert archive_options(fake_java(tmp_path, "exit 1"), [], tmp_path) == ()
    assert not list(tmp_path.glob("*.jsa"))


def test_an_archive_that_another_process_makes_is_not_waited_for(tmp_path: Path) -> None:
    java = fake_java(tmp_path, MAKES)
    with FileLock(tmp_path / ".archive.lock"):
        assert archive_options(java, [], tmp_path) == ()


def test_java_accepts_the_archive() -> None:
    classpath = jars.classpath()
    options = archive_options(jars.java(), classpath, jars.jar_cache())
    command = [str(jars.java()), *jars.FLAGS, "-XX:+UseParallelGC", *options, "-Xlog:class+load"]
    command += ["-cp", os.pathsep.join(map(str, classpath)), "kafka.Kafka", "--version"]
    loaded = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    if not options:
        pytest.skip("another process makes the archive at this moment")
    from_archive = [line for line in loaded.splitlines() if "shared objects file" in line]
    assert len(from_archive) > len(loaded.splitlines()) / 2


def test_the_list_keeps_names_and_lambdas() -> None:
    dumped = "# note\njava/lang/Object id: 0\n@cp java/lang/Object 1 2\n@lambda-proxy kafka/Kafka run\n"
    assert shortened(dumped) == "java/lang/Object\n@lambda-proxy kafka/Kafka run\n"
