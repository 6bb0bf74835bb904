"""Send failed messages again: only those that a new producer can deliver, at most `retries` times."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
from confluent_kafka import KafkaError

from coinstream.errors import FatalProducerError, MessageTooLargeError
from coinstream.producer.delivery import Delivery, DeliveryReports, Failure
from coinstream.producer.delivery_kinds import RepeatedDelivery, SingleDelivery


class Record(NamedTuple):
    """A failed record as librdkafka returns it, without its time."""

    name: str = "t"

    def topic(self) -> str:
        return self.name

    def key(self) -> bytes:
        return b"k"


def failure(delivery: Delivery, code: int) -> Failure:
    record: Any = Record()
    return Failure(delivery, KafkaError(code), record)


def repeated(code: int, times: int, record_time_ms: int = 7) -> Failure:
    """Return the failure of a message that was sent again so often, each time with the same error."""
    delivery: Delivery = SingleDelivery(1, DeliveryReports(), record_time_ms)
    found = failure(delivery, code)
    for _ in range(times):
        found = failure(RepeatedDelivery(DeliveryReports(), found), code)
    return found


@pytest.mark.parametrize(
    "code",
    [
        KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER,
        KafkaError.UNKNOWN_PRODUCER_ID,
        KafkaError.INVALID_PRODUCER_EPOCH,
        KafkaError.INVALID_TIMESTAMP,
    ],
)
@pytest.mark.parametrize("retries", [0, 1, 3])
def test_a_refused_message_is_sent_again_as_often_as_retries_say(code: int, retries: int) -> None:
    assert [repeated(code, times).retriable(60, retries) for times in range(retries + 1)] == [
        *[True] * retries,
        False,
    ]


def test_a_message_that_was_only_returned_counts_no_retry() -> None:
    for code in (KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT, KafkaError._FATAL):
        assert repeated(code, 20).retriable(60, 0)
        assert not repeated(code, 0).retriable(0, 3)


def test_a_message_of_a_refused_batch_is_sent_once_more_alone() -> None:
    first, second = repeated(KafkaError.MSG_SIZE_TOO_LARGE, 0), repeated(KafkaError.MSG_SIZE_TOO_LARGE, 1)
    assert first.alone
    assert first.retriable(60, 3)
    assert not first.retriable(60, 0)
    assert not second.retriable(60, 3)
    assert isinstance(second.as_error(), MessageTooLargeError)


def test_other_errors_are_reported_at_once() -> None:
    assert not repeated(KafkaError._MSG_TIMED_OUT, 0).retriable(60, 3)
    assert isinstance(repeated(KafkaError.UNKNOWN_PRODUCER_ID, 2).as_error(), FatalProducerError)


def test_a_repeated_message_keeps_its_record_time_and_place() -> None:
    found = repeated(KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER, 3, record_time_ms=1_700_000_000_123)
    assert found.record_time_ms == 1_700_000_000_123
    assert found.order == (1, 0)
