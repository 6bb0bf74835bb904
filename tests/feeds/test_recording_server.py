"""Each adapter's live path, end to end over a real websocket, against the recording it was tested on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from coinstream.errors import FeedError
from coinstream.feeds.exchanges import adapters
from coinstream.feeds.exchanges.base import ExchangeAdapter
from coinstream.feeds.feed_stats import FeedStats
from coinstream.feeds.instrument_lists import packaged
from coinstream.feeds.live import DirectFeed, Timeouts
from coinstream.feeds.parser import Frame, account_for
from coinstream.feeds.recordings import exchange_in, read_lines
from coinstream.feeds.simulated import Faults
from coinstream.feeds.simulated.recording_server import RecordingServer
from coinstream.messages import Message
from tests.feeds.running import Running

FOLDER = Path(__file__).parents[1] / "data" / "recordings"
SESSIONS = sorted(path for path in FOLDER.glob("*.gz") if ".instruments." not in path.name)
LONG = Timeouts(frozen_after_s=600, silent_after_s=600, first_retry_s=0.02, longest_retry_s=0.2)
TIMED = ("timestamp", "last_updated")


def types_of(adapter: type[ExchangeAdapter]) -> tuple[str, ...]:
    """Return the types of an adapter whose number does not depend on the time of receipt."""
    return tuple({kind for channel in adapter.channels for kind in channel.types} - {"book"})


def untimed(message: Message) -> tuple[Any, ...]:
    fields = {name: getattr(message, name) for name in message.__struct_fields__ if name not in TIMED}
    return type(message).__name__, *fields.items()


def parsed(server: RecordingServer, types: tuple[str, ...], path: Path) -> tuple[list[Message], FeedStats]:
    """Parse the frames of a recording one by one."""
    adapter, stats, messages = adapters()[server.exchange](), FeedStats(), list[Message]()
    instruments = packaged(server.exchange)
    for line in read_lines(path):
        url = line.frame.url
        if line.reason is None and url is not None and adapter.lists_instruments(url):
            instruments.add(adapter.parse_instruments(url, line.frame.payload))
    parser = adapter.parser(instruments, frozenset(types))
    opened = next(
        (line.frame.url for line in read_lines(path) if str(line.reason) == "connection opened"), None
    )
    if opened is not None:
        parser.opened(opened)  # type: ignore[attr-defined]
    for payload in server.frames:
        frame = Frame(1_800_000_000_000_000_000, payload)
        outcome = parser.parse(frame)
        account_for(outcome, frame, server.exchange, stats)
        messages += outcome.messages
    return messages, stats


@pytest.mark.parametrize("path", SESSIONS, ids=lambda path: path.name)
def test_the_live_path_gives_what_parsing_the_file_gives(path: Path) -> None:
    with RecordingServer(path) as server:
        adapter = adapters()[server.exchange]
        types = types_of(adapter)
        wanted, stats = parsed(server, types, path)
        feed = DirectFeed(adapter(server.ws_url, server.rest_url), server.symbols, "replay", types, LONG)
        with Running(feed) as running:
            running.wait(lambda: feed.stats.frames >= len(server.frames), "all frames")
            running.wait(lambda: len(running.messages) >= len(wanted), "all messages")
    assert server.refused == []
    assert server.subscriptions or adapter.channels
    assert (feed.stats.accepted, feed.stats.rejected) == (stats.accepted, stats.rejected)
    assert feed.stats.entries == stats.entries
    assert [untimed(message) for message in running.messages] == [untimed(message) for message in wanted]


def test_a_market_that_was_not_recorded_is_refused() -> None:
    with RecordingServer(FOLDER / "kucoin.ws.gz") as server:
        adapter = adapters()["kucoin"](server.ws_url, server.rest_url)
        listed = [one for one in packaged("kucoin") if one.symbol not in server.symbols]
        with Running(DirectFeed(adapter, [listed[0].symbol], "strange", ("trade",), LONG)) as running:
            running.wait(lambda: server.refused, "the refusal")
    assert listed[0].id in server.refused[0]


def test_faults_apply_to_recorded_frames() -> None:
    path = FOLDER / "hitbtc.gz"
    with RecordingServer(path, faults=Faults(garble=1.0)) as server:
        adapter = adapters()[server.exchange]
        types = types_of(adapter)
        feed = DirectFeed(adapter(server.ws_url, server.rest_url), server.symbols, "replay", types, LONG)
        with Running(feed) as running:
            running.wait(lambda: feed.stats.frames >= len(server.frames), "all frames")
    assert not running.messages
    assert feed.stats.is_balanced


def test_a_recording_without_an_adapter_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "session"
    path.write_bytes(
        b"wss://coingecko.com/ws <-> 1618678132.37\n1618678132.5: " + msgspec.json.encode({}) + b"\n"
    )
    assert exchange_in(path) == "coingecko"
    with pytest.raises(FeedError, match="no adapter"):
        RecordingServer(path)
