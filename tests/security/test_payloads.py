"""Hostile bytes cost an error, not memory, not the process."""

from __future__ import annotations

import tracemalloc
from contextlib import suppress
from pathlib import Path

import lz4.frame
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coinstream.client import RedpandaClient
from coinstream.errors import DecodeError, MessageTooLargeError, SettingsError
from coinstream.feeds.config import read_feeds_file
from coinstream.serialization import MAX_DECOMPRESSED, MessageDeserializer
from coinstream.settings import BrokerSettings
from tests.conftest import TopicFactory

COMPRESSED = [("compressed", b"true")]


def test_bomb_is_refused_within_bounds() -> None:
    bomb = lz4.frame.compress(bytes(64 * MAX_DECOMPRESSED))
    assert len(bomb) < MAX_DECOMPRESSED
    tracemalloc.start()
    try:
        with pytest.raises(DecodeError, match="unpacks to more than"):
            MessageDeserializer().decode(bomb, COMPRESSED)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * MAX_DECOMPRESSED


def test_largest_that_is_allowed() -> None:
    padded = b'{"usdPrice": 1' + b" " * (MAX_DECOMPRESSED - 15) + b"}"
    assert len(padded) == MAX_DECOMPRESSED
    with pytest.raises(DecodeError, match="missing required field"):
        MessageDeserializer().decode(lz4.frame.compress(padded), COMPRESSED)


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(DecodeError, match="not JSON"):
        MessageDeserializer().decode(b'{"usdPrice":' + b"[" * 200_000 + b"]" * 200_000 + b"}")


@given(st.binary(max_size=2000), st.booleans())
def test_any_bytes_give_a_message_or_our_error(value: bytes, compressed: bool) -> None:
    with suppress(DecodeError):
        MessageDeserializer().decode(value, COMPRESSED if compressed else None, "crypto-prices")


def test_too_large_to_send(broker_settings: BrokerSettings, topic: TopicFactory) -> None:
    name = topic("large")
    with RedpandaClient(broker_settings) as client:
        with pytest.raises(MessageTooLargeError, match=name):
            client.send(name, "key", bytes(3_000_000))
        # The client goes on.
        assert client.send(name, "key", b"small").result(20).offset == 0


def test_aliases_of_aliases_are_refused(tmp_path: Path) -> None:
    """Nine lines that would unfold to a thousand million entries."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    path = tmp_path / "feeds.yaml"
    path.write_text("\n".join(lines))
    with pytest.raises(SettingsError, match=r"feeds\.yaml:2: \*a0: aliases are not read here"):
        read_feeds_file(path)


def test_tags_that_make_objects_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "feeds.yaml"
    path.write_text("feeds: !!python/object/apply:os.system ['touch /tmp/never']\n")
    with pytest.raises(SettingsError, match=r"feeds\.yaml: not YAML: .*python/object"):
        read_feeds_file(path)
