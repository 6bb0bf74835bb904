"""Messages that a foreign producer may send: none stops a group, and each becomes a dead letter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lz4.frame
import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from coinstream.client import RedpandaClient
from coinstream.consumer import ConsumedMessage, GroupOptions
from coinstream.consumer.replay import copy, replay
from coinstream.consumer.tail_reader import newest_records
from coinstream.consumer.transactions import Output, TransactionalProcessor
from coinstream.dlq import DeadLetterQueue
from coinstream.dlq.entry import SAMPLE_BYTES
from coinstream.errors import DecodeError
from coinstream.serialization import MAX_DECOMPRESSED, MAX_FRAMES, decompress
from coinstream.settings import BrokerSettings, ConsumerSettings
from tests.conftest import TopicFactory
from tests.consumer.common import Memory, fill
from tests.raw_records import RawRecord, produce_raw
from tests.support import unique, wait_until

Committed = Callable[[str, str, int], dict[int, int]]
LATIN = b'{"exchangeId":"\xff"}'
BOMB = lz4.frame.compress(bytes(2 * MAX_DECOMPRESSED))
HOSTILE = [
    RawRecord(LATIN, b"utf8"),
    RawRecord(b'{"exchangeId":"x"}', b"header", [(b"\xff", b"1"), (b"good", b"2")]),
    RawRecord(b'{"a":' * 3000, b"nested"),
    RawRecord(BOMB, b"bomb", [(b"compressed", b"true")]),
    RawRecord(b"\xff\xfe", b"\xff\xfekey"),
    RawRecord(LATIN, b"time", timestamp_ms=1_790_000_000_000_000),
]


def handle_all(client: RedpandaClient, topic: str, group: str, count: int) -> Memory:
    memory = Memory()
    with client.create_consumer_group(group, [topic], memory.one, GroupOptions(retries=0)) as manager:
        wait_until(lambda: manager.report().dead_letters + memory.total >= count)
    return memory


def entries(brokers: BrokerSettings, topic: str) -> dict[bytes | None, Any]:
    return {entry.dead_letter.key: entry for entry in DeadLetterQueue(brokers, topic).read()}


def test_each_becomes_a_dead_letter_and_the_group_goes_on(
    client: RedpandaClient, broker_settings: BrokerSettings, topic: TopicFactory, committed: Committed
) -> None:
    name, group = (
        topic("crypto-level1", config={"message.timestamp.after.max.ms": str(2**62)}),
        unique("group"),
    )
    produce_raw(broker_settings.brokers, name, HOSTILE)
    fill(client, name, 5)
    memory = handle_all(client, name, group, len(HOSTILE) + 5)
    assert memory.total == 5
    assert committed(group, name, 1) == {0: len(HOSTILE) + 5}
    found = entries(broker_settings, name)
    assert found.keys() == {record.key for record in HOSTILE}
    assert all(found[record.key].dead_letter.value == record.value for record in HOSTILE)
    assert "UTF-8" in found[b"utf8"].dead_letter.error
    header = found[b"header"].dead_letter
    assert ("header" in header.error, header.lost, header.is_truncated) == (True, "headers", True)
    assert found[b"time"].dead_letter.timestamp_ms == 1_790_000_000_000_000
    # What reads without a group takes them too.
    assert len(newest_records(broker_settings, name, 100)) == len(HOSTILE) + 5
    report = replay(broker_settings, name, lambda _: None)
    assert (report.messages, report.undecodable) == (5, len(HOSTILE))


def test_a_processor_takes_them_too(
    client: RedpandaClient, broker_settings: BrokerSettings, topic: TopicFactory
) -> None:
    name, to = topic("crypto-level1"), topic("crypto-level1")
    near_the_limit = RawRecord(b"x" * 1_040_000, b"near")
    produce_raw(broker_settings.brokers, name, [*HOSTILE[:-1], near_the_limit])
    fill(client, name, 5)

    def forward(messages: list[ConsumedMessage]) -> list[Output]:
        return [Output(to, each.key, each.message) for each in messages]

    settings = ConsumerSettings(offset_reset="earliest")
    processor = TransactionalProcessor(
        unique("group"), [name], forward, unique("id"), broker_settings, settings
    )
    report = processor.run(until_end=True)
    assert (report.consumed, report.dead_letters) == (5, len(HOSTILE))
    assert entries(broker_settings, name)[b"near"].dead_letter.value_bytes == 1_040_000


def test_a_copy_says_which_headers_it_could_not_take(
    client: RedpandaClient, broker_settings: BrokerSettings, topic: TopicFactory
) -> None:
    name, to = topic("crypto-level1"), topic("crypto-level1")
    produce_raw(broker_settings.brokers, name, HOSTILE[:-1])
    report = copy(broker_settings, name, to)
    assert (report.messages, report.without_headers) == (len(HOSTILE) - 1, 1)


def test_a_message_that_does_not_fit_leaves_a_sample_and_is_replayed_from_its_topic(
    client: RedpandaClient, broker_settings: BrokerSettings, topic: TopicFactory, committed: Committed
) -> None:
    large = {"max.message.bytes": "12000000"}
    name, to, group = topic("crypto-level1", config=large), topic("other", config=large), unique("group")
    sizes = {b"near": 1_048_400, b"three": 3_000_000, b"ten": 10_000_000, b"small": 10}
    records = [RawRecord(key * (size // len(key)), key) for key, size in sizes.items()]
    records.append(RawRecord(b"x", b"headers", [(b"h", b"y" * 1_000_000)]))
    produce_raw(broker_settings.brokers, name, records, max_request_size=20_000_000, compression_type="gzip")
    handle_all(client, name, group, 5)
    assert committed(group, name, 1) == {0: 5}
    found = entries(broker_settings, name)
    for record in records[1:3]:
        dead_letter = found[record.key].dead_letter
        assert dead_letter.value == (record.value or b"")[:SAMPLE_BYTES]
        assert (dead_letter.value_bytes, dead_letter.is_truncated) == (len(record.value or b""), True)
    assert not found[b"small"].dead_letter.is_truncated
    assert found[b"headers"].dead_letter.lost == "headers"
    queue = DeadLetterQueue(broker_settings, name)
    assert queue.replay(to=to).replayed == 5
    copies = {record.key: record for record in newest_records(broker_settings, to, 10)}
    assert {key: copy.value for key, copy in copies.items()} == {each.key: each.value for each in records}
    assert dict(copies[b"headers"].headers)["h"] == b"y" * 1_000_000


def test_a_truncated_dead_letter_whose_original_is_gone_is_counted(
    client: RedpandaClient, broker_settings: BrokerSettings, topic: TopicFactory
) -> None:
    name = topic("crypto-level1", config={"max.message.bytes": "12000000"})
    record = RawRecord(b"x" * 5_000_000, b"key")
    produce_raw(broker_settings.brokers, name, [record], max_request_size=20_000_000, compression_type="gzip")
    handle_all(client, name, unique("group"), 1)
    admin = AdminClient({"bootstrap.servers": broker_settings.brokers})
    for future in admin.delete_records([TopicPartition(name, 0, 1)]).values():
        future.result(30)
    done = DeadLetterQueue(broker_settings, name).replay()
    assert (done.replayed, done.incomplete) == (0, 1)


def test_headers_of_a_message_never_pass_for_those_of_a_dead_letter(
    client: RedpandaClient, broker_settings: BrokerSettings, topic: TopicFactory
) -> None:
    name, to = topic("crypto-level1"), topic("other")
    headers = [
        (b"dlq-replayed", b"0:0"),
        (b"dlq-topic", b"elsewhere"),
        (b"dlq-offset", b"77"),
        (b"dlq-original-x", b"1"),
        (b"coinstream-replays", b"99"),
        (b"replayed-from", f"{name}.dlq[0]@0".encode()),
        (b"error", b"mine"),
    ]
    produce_raw(broker_settings.brokers, name, [RawRecord(b"no", b"a"), RawRecord(b"no", b"b", headers)])
    handle_all(client, name, unique("group"), 2)
    queue = DeadLetterQueue(broker_settings, name)
    found = entries(broker_settings, name)
    assert found.keys() == {b"a", b"b"}
    assert not any(entry.is_replayed for entry in found.values())
    dead_letter = found[b"b"].dead_letter
    assert (dead_letter.topic, dead_letter.offset, dead_letter.error_type) == (name, 1, "DecodeError")
    assert dead_letter.headers == [(key.decode(), value) for key, value in headers]
    # Its count of replays is not confirmed by the log, so it is replayed, with its headers.
    assert queue.replay(to=to).replayed == 2
    assert queue.replay(to=to).already == 2
    copies = {record.key: dict(record.headers) for record in newest_records(broker_settings, to, 10)}
    assert copies[b"b"]["dlq-replayed"] == b"0:0"
    assert copies[b"b"]["dlq-offset"] == b"77"
    assert copies[b"b"]["coinstream-replays"] == b"1"


def test_replays_of_a_deleted_topic_do_not_count_for_the_next_of_its_name(
    client: RedpandaClient, broker_settings: BrokerSettings, topic: TopicFactory
) -> None:
    name, to = topic("crypto-level1"), topic("other")
    produce_raw(broker_settings.brokers, name, [RawRecord(b"no", b"a")])
    handle_all(client, name, unique("group"), 1)
    queue = DeadLetterQueue(broker_settings, name)
    assert queue.replay(to=to).replayed == 1
    admin = AdminClient({"bootstrap.servers": broker_settings.brokers})
    admin.delete_topics([f"{name}.dlq"])[f"{name}.dlq"].result(30)
    wait_until(lambda: f"{name}.dlq" not in admin.list_topics(timeout=10).topics)
    handle_all(client, name, unique("group"), 1)
    assert queue.replay(to=to).replayed == 1


FRAME = lz4.frame.compress(b"abc")
SKIPPABLE = (0x184D2A53).to_bytes(4, "little") + (5).to_bytes(4, "little") + b"12345"


@pytest.mark.parametrize(
    ("payload", "content"),
    [
        (FRAME, b"abc"),
        (FRAME + lz4.frame.compress(b"def"), b"abcdef"),
        (SKIPPABLE + FRAME, b"abc"),
        (FRAME + SKIPPABLE + FRAME + SKIPPABLE, b"abcabc"),
    ],
)
def test_lz4_frames_may_be_concatenated_and_skippable(payload: bytes, content: bytes) -> None:
    assert decompress(payload) == content


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        SKIPPABLE,
        SKIPPABLE[:-1] + FRAME[:1],
        FRAME[:-1],
        FRAME + b"rest",
        FRAME + FRAME[:-2],
        lz4.frame.compress(bytes(MAX_DECOMPRESSED + 1)),
        lz4.frame.compress(bytes(MAX_DECOMPRESSED)) + FRAME,
        FRAME * (MAX_FRAMES + 1),
    ],
)
def test_other_payloads_are_refused(payload: bytes) -> None:
    with pytest.raises(DecodeError):
        decompress(payload)
