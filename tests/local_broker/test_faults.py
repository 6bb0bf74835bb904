"""Test that faults of the local broker raise clear errors."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from confluent_kafka import KafkaException, Producer

from coinstream.errors import LocalBrokerError
from coinstream.local_broker import LocalBroker
from coinstream.local_broker.node import ProcessIdentity, why_it_died
from coinstream.local_broker.properties import NodePlan, free_ports
from coinstream.local_broker.status import (
    RunningBroker,
    running_broker,
    state_file,
    write_running,
)
from tests.conftest import topic_factory
from tests.support import wait_until

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def formatted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a home whose broker ran once and was stopped in order."""
    home = tmp_path_factory.mktemp("formatted")
    with LocalBroker(home, port=0):
        pass
    return home


@pytest.fixture
def home(formatted: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(formatted, tmp_path / "home"))


def meta(home: Path) -> Path:
    return home / "nodes-1" / "node-1" / "data" / "meta.properties"


def test_a_taken_port_names_its_holder(tmp_path: Path) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", free_ports(1)[0]))
        holder.listen()
        port = holder.getsockname()[1]
        expected = rf"port {port} on 127\.0\.0\.1.*taken by .*process {os.getpid()}.*COINSTREAM_BROKER_PORT"
        with pytest.raises(LocalBrokerError, match=expected):
            LocalBroker(tmp_path, port=port).start()


def test_damaged_properties_are_corruption(home: Path) -> None:
    meta(home).write_bytes(os.urandom(200))
    with pytest.raises(LocalBrokerError, match=r"data is corrupt: meta\.properties"):
        LocalBroker(home, port=0).start()


def test_lost_properties_are_corruption_and_not_a_first_start(home: Path) -> None:
    meta(home).unlink()
    with pytest.raises(LocalBrokerError, match=r"corrupt: meta\.properties is missing; move it away"):
        LocalBroker(home, port=0).start()


def test_a_folder_of_another_cluster_is_refused(home: Path) -> None:
    text = meta(home).read_text()
    cluster_id = next(line for line in text.splitlines() if line.startswith("cluster.id="))
    meta(home).write_text(text.replace(cluster_id, "cluster.id=AAAAAAAAAAAAAAAAAAAAAA"))
    with pytest.raises(LocalBrokerError, match=r"cluster\.id='AAAAAAAAAAAAAAAAAAAAAA' instead of"):
        LocalBroker(home, port=0).start()


def test_a_damaged_checkpoint_ends_java_and_the_log_is_named(home: Path) -> None:
    (meta(home).parent / "recovery-point-offset-checkpoint").write_bytes(b"garbage\n\n")
    with pytest.raises(
        LocalBrokerError, match=r"died \(exit code 1\): .* is corrupt.*; its log is .*"
    ) as raised:
        LocalBroker(home, port=0).start()
    log = Path(str(raised.value).rpartition("its log is ")[2])
    assert "recovery-point-offset-checkpoint" in log.read_text()


def test_a_state_file_that_nobody_owns_is_no_obstacle(home: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        dead = ProcessIdentity.of(psutil.Process(process.pid))
    write_running(home, RunningBroker(dead, "127.0.0.1:1", (), ready=True))
    with LocalBroker(home, port=0) as broker:
        with pytest.raises(LocalBrokerError, match=f"runs already in .* owned by process {os.getpid()}"):
            LocalBroker(home, port=0).start()
        # Killed from outside, as the kernel does when memory runs out.
        process_of_java = broker.nodes[0].process
        assert process_of_java is not None
        process_of_java.send_signal(signal.SIGKILL)
        wait_until(lambda: broker.nodes[0].died, what="the death is noticed")
        with pytest.raises(LocalBrokerError, match=r"died \(exit code 137\).*its log is .*server\.log"):
            broker.check()
    assert not state_file(home).exists()


def test_a_state_file_that_cannot_be_read_is_no_obstacle(home: Path) -> None:
    state_file(home).write_bytes(b"\x00 half a file")
    assert running_broker(home) is None


def test_a_wrong_server_property_is_said(tmp_path: Path) -> None:
    with pytest.raises(LocalBrokerError, match=r"server property is not accepted.*its log is"):
        LocalBroker(tmp_path, port=0, properties={"num.io.threads": "many"}).start()


def test_a_home_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(LocalBrokerError, match=r"cannot write the folder .*file.*COINSTREAM_HOME"):
        LocalBroker(tmp_path / "file" / "home", port=0).start()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Yield a file system of 160 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=160m", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if mounted.returncode != 0:
        pytest.skip(f"a small file system needs root and the right to mount: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_without_room_is_refused_before_the_start(small_disk: Path) -> None:
    (small_disk / "ballast").write_bytes(bytes(130_000_000))
    with pytest.raises(LocalBrokerError, match=r"no room for .*MB are free.*COINSTREAM_HOME"):
        LocalBroker(small_disk / "home", port=0).start()


def test_a_disk_that_fills_up_is_the_reason_of_the_death(small_disk: Path) -> None:
    with LocalBroker(small_disk / "home", port=0) as broker:
        topic = topic_factory(broker.bootstrap)("filling")
        ballast = small_disk / "ballast"
        ballast.write_bytes(bytes(shutil.disk_usage(small_disk).free - 4_000_000))
        produce_until_it_dies(broker, topic)
        with pytest.raises(LocalBrokerError, match=r"no space is left for .*; its log is .*server\.log"):
            broker.check()


def test_a_full_disk_is_the_reason_also_when_the_log_on_it_could_not_say_so(small_disk: Path) -> None:
    plan = NodePlan(1, small_disk, {})
    plan.log.write_text("ERROR org.apache.kafka.common.errors.KafkaStorageException: log dir is offline")
    assert "is corrupt" in why_it_died(plan)
    (small_disk / "ballast").write_bytes(bytes(shutil.disk_usage(small_disk).free))
    assert f"no space is left for {plan.data}" in why_it_died(plan)


def produce_until_it_dies(broker: LocalBroker, topic: str) -> None:
    producer = Producer({"bootstrap.servers": broker.bootstrap, "message.timeout.ms": 60_000})

    def died() -> bool:
        try:
            producer.produce(topic, os.urandom(100_000))
        except (BufferError, KafkaException):
            producer.poll(0.1)
        producer.flush(0.2)
        return broker.nodes[0].died

    wait_until(died, timeout=300, what="the broker dies of a full disk")
    producer.purge()
