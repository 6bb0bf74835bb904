"""Read recordings of exchange sessions in the forms of public collections, and choose their parsers.

- Line form of hftbacktest: `<receipt time, ns> <frame>`.
- Session form of cryptofeed: `URL <-> t` opened, `URL <- t: frame` sent, `t: frame` received,
  `URL -> t: body` answered over REST; times in seconds.
- Reply form: method, path, `true|false`, then the body of one REST reply over the rest of the file.
- A binary frame of the session form is a Python literal: `t: b'...'`.
- LEAN's minute bars: a zip archive with `<yyyymmdd>_<symbol>_minute_<trade|quote>.csv`.
"""

from __future__ import annotations

import ast
import gzip
import re
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import IO, Final, NamedTuple, cast

from coinstream.errors import FeedError
from coinstream.feeds.exchanges import adapters, exchange_at
from coinstream.feeds.exchanges.coingecko import CoingeckoParser
from coinstream.feeds.exchanges.lean import LeanParser, exchange_of_archive, midnight_ns
from coinstream.feeds.exchanges.parsing import ExchangeParser
from coinstream.feeds.feed_stats import Reason
from coinstream.feeds.instrument_lists import packaged
from coinstream.feeds.instruments import InstrumentList
from coinstream.feeds.parser import Frame, Parser
from coinstream.text import did_you_mean

PARSERS: Final[dict[str, Callable[[], Parser]]] = {"coingecko": CoingeckoParser, "lean": LeanParser}
"""Parsers that belong to no exchange adapter, by exchange id; plugins add to them with `register_parser`."""
HOSTS: Final[dict[str, str]] = {"coingecko.com": "coingecko"}
"""Exchange of these parsers by the end of its host names; the first match counts."""
SAMPLE: Final = 400
"""Number of frames tried with every parser if a recording has no URLs."""
_COINGECKO: Final = re.compile(r"/api/v3/(global|coins/|simple/)")
"""Paths of CoinGecko's REST API, whose recordings contain no host."""
_UNREAD: Final = frozenset({Reason.MALFORMED, Reason.BAD_VALUE, Reason.UNKNOWN, Reason.REFUSED})
_METHODS: Final = (b"GET", b"POST")
_LINE: Final = re.compile(rb"(\d{16,20}) (.*)", re.DOTALL)
_RECEIVED: Final = re.compile(rb"(\d{9,11}(?:\.\d+)?): ?(.*)", re.DOTALL)
_EVENT: Final = re.compile(rb"(\w+://\S+) (<->|<-|->) (\d{9,11}(?:\.\d+)?)(?:: ?(.*))?", re.DOTALL)
_GZIP_MAGIC: Final = b"\x1f\x8b"
_BYTES: Final = (b"b'", b'b"')
_CONFIGURATION: Final = b"configuration: "


class Line(NamedTuple):
    """One line of a recording: a frame, or the reason why the line contains none."""

    frame: Frame
    reason: Reason | None = None


def read_lines(path: Path) -> Iterator[Line]:
    """Yield the lines of a recording in file order.

    Raises:
        FeedError: the file is missing, unreadable, or its compression is damaged; the message names the
            line.
    """
    number = 0
    try:
        if zipfile.is_zipfile(path):
            yield from _archive(path)
            return
        with _open(path) as stream:
            first = stream.readline()
            if first.strip() in _METHODS:
                yield _reply(stream, path)
                return
            last_ns = 0
            for raw in _chain(first, stream):
                number += 1
                line = _line(raw, last_ns)
                if line is not None:
                    last_ns = line.frame.received_ns
                    yield line
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise FeedError(f"recording {path}: cannot read past line {number}: {error}") from error


def files_of(path: Path) -> list[Path]:
    """Return the recordings of one session: a file, or the files of a folder in the order of their names.

    Raises:
        FeedError: there is no such file, or the folder contains none.
    """
    if not path.is_dir():
        if not path.is_file():
            raise FeedError(f"recording {path}: no such file")
        return [path]
    found = sorted(file for file in path.iterdir() if file.is_file() and not file.name.startswith("."))
    if not found:
        raise FeedError(f"recording {path}: the folder contains no file")
    return found


def exchange_in(path: Path) -> str:
    """Return the exchange of a recording by its URLs, else by the content of its frames.

    Raises:
        FeedError: the URLs belong to two exchanges, or the frames fit none or several; the message names
            the candidates.
    """
    frames, is_empty = [], True
    for line in read_lines(path):
        is_empty = False
        named = exchange_of(line.frame.url) if line.frame.url else None
        if named:
            return named
        if line.reason is None:
            frames.append(line.frame)
        if len(frames) >= SAMPLE:
            break
    if is_empty:
        raise FeedError(f"recording {path}: the file contains no frame")
    found = identify(frames)
    if len(found) == 1:
        return found[0]
    candidates = f"it may be {', '.join(found)}" if found else "its frames fit no known exchange"
    raise FeedError(f"recording {path}: cannot detect the exchange: {candidates}; set it with --exchange")


def _open(path: Path) -> IO[bytes]:
    with path.open("rb") as probe:
        packed = probe.read(2) == _GZIP_MAGIC
    return cast("IO[bytes]", gzip.open(path, "rb")) if packed else path.open("rb")


def _chain(first: bytes, rest: IO[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


def _line(raw: bytes, last_ns: int) -> Line | None:
    raw = raw.rstrip(b"\r\n")
    if not raw.strip():
        return None
    if found := _LINE.fullmatch(raw):
        return Line(Frame(int(found[1]), found[2]))
    if found := _RECEIVED.fullmatch(raw):
        return Line(Frame(_to_ns(found[1]), _unquoted(found[2])))
    if raw.startswith(_CONFIGURATION):
        return Line(Frame(last_ns, raw), Reason.STATUS)
    if found := _EVENT.fullmatch(raw):
        frame = Frame(_to_ns(found[3]), found[4] or b"", found[1].decode())
        return Line(frame, {b"<->": Reason.OPENED, b"<-": Reason.SENT}.get(found[2]))
    return Line(Frame(last_ns, raw), Reason.MALFORMED)


def _unquoted(payload: bytes) -> bytes:
    """Return the bytes of a frame; binary frames are recorded as Python literals."""
    if not payload.startswith(_BYTES):
        return payload
    try:
        literal = ast.literal_eval(payload.decode("ascii"))
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return payload
    return literal if isinstance(literal, bytes) else payload


def _to_ns(seconds: bytes) -> int:
    whole, _, fraction = seconds.partition(b".")
    return int(whole) * 1_000_000_000 + int((fraction + b"000000000")[:9])


def _reply(stream: IO[bytes], path: Path) -> Line:
    address = stream.readline().strip().decode()
    stream.readline()
    # Nothing in the file says when the reply came; its own time stamps stand where it has them.
    received_ns = path.stat().st_mtime_ns
    return Line(Frame(received_ns, stream.read(), f"reply://{address}"))


def _archive(path: Path) -> Iterator[Line]:
    market = exchange_of_archive(path)
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            day_ns = midnight_ns(name)
            with archive.open(name) as member:
                for row in filter(None, map(bytes.strip, member)):
                    yield _bar(row, day_ns, f"lean://{market}/{name}")


def _bar(row: bytes, midnight_ns: int | None, url: str) -> Line:
    """Return a line of a minute bar, with the end of its minute as receipt time."""
    since_midnight = row.partition(b",")[0]
    if midnight_ns is None or not since_midnight.isdigit():
        return Line(Frame(midnight_ns or 0, row, url), Reason.MALFORMED)
    return Line(Frame(midnight_ns + (int(since_midnight) + 60_000) * 1_000_000, row, url))


def tell_address(parser: Parser, url: str | None) -> None:
    """Pass the URL of the connection to a parser that depends on it."""
    if url is not None and isinstance(parser, ExchangeParser):
        parser.opened(url)


def parser_for(path: Path, exchange: str, instruments: InstrumentList | None = None) -> Parser:
    """Return a new parser for a recording. The format of the file takes precedence over its exchange.

    Raises:
        FeedError: the exchange has no parser, or the file cannot be read.
    """
    try:
        return LeanParser(exchange) if zipfile.is_zipfile(path) else new_parser(exchange, instruments)
    except OSError as error:
        raise FeedError(f"recording {path}: {error}") from error


class _Score(NamedTuple):
    read: int
    messages: int


def register_parser(exchange: str, make: Callable[[], Parser], *hosts: str) -> None:
    """Register a parser for recordings of an exchange, with the ends of its host names.

    Raises:
        ValueError: the exchange or a host name belongs to another parser.
    """
    taken = [host for host in hosts if HOSTS.get(host, exchange) != exchange]
    if taken or PARSERS.get(exchange, make) is not make:
        raise ValueError(f"exchange {exchange!r} or one of its hosts is registered already")
    PARSERS[exchange] = make
    HOSTS.update(dict.fromkeys(hosts, exchange))


def exchanges_with_parser() -> list[str]:
    """Return every exchange that has a parser."""
    return sorted({*PARSERS, *adapters()})


def new_parser(
    exchange: str, instruments: InstrumentList | None = None, types: frozenset[str] | None = None
) -> Parser:
    """Return a new parser.

    Args:
        exchange: the exchange id.
        instruments: instruments that frames refer to; by default the packaged list.
        types: message types to produce; None for all.

    Raises:
        FeedError: the exchange has no parser.
    """
    adapter = adapters().get(exchange)
    if adapter is not None:
        return adapter().parser(packaged(exchange) if instruments is None else instruments, types)
    make = PARSERS.get(exchange)
    if make is None:
        known = exchanges_with_parser()
        raise FeedError(f"no parser for exchange {exchange!r}; {did_you_mean(exchange, known)}")
    return make()


def exchange_of(url: str) -> str | None:
    """Return the exchange of a URL, or None if its host is unknown."""
    scheme, _, rest = url.partition("://")
    host = rest.partition("/")[0].partition(":")[0]
    if scheme == "lean":
        return host
    if scheme == "reply":
        return "coingecko" if _COINGECKO.search(url) else None
    found = exchange_at(url)
    if found is not None:
        return found
    return next((name for end, name in HOSTS.items() if host == end or host.endswith("." + end)), None)


def identify(frames: Iterable[Frame]) -> list[str]:
    """Return the exchanges whose parsers read the most frames: none, one, or several in a tie."""
    sample = list(islice(frames, SAMPLE))
    scores = {name: _score(name, sample) for name in exchanges_with_parser()}
    readers = {name: score for name, score in scores.items() if score.messages}
    best = max((score.read for score in readers.values()), default=0)
    return [name for name, score in readers.items() if score.read == best]


def _score(exchange: str, sample: list[Frame]) -> _Score:
    adapter = adapters().get(exchange)
    if adapter is not None and any(adapter.is_foreign(frame.payload) for frame in sample):
        return _Score(0, 0)
    parser, read, messages = new_parser(exchange), 0, 0
    for frame in sample:
        parsed = parser.parse(frame)
        messages += len(parsed.messages)
        read += bool(parsed.messages) or not any(reason in _UNREAD for reason in parsed.rejected)
    return _Score(read, messages)
