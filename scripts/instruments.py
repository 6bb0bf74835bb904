"""Build the packaged instrument lists from recorded REST replies.

Usage: `python scripts/instruments.py FOLDER`, where FOLDER holds `*.instruments.gz` files with lines
`URL -> time: body`, as the test data of cryptofeed has them.
"""

from __future__ import annotations

import gzip
import sys
from pathlib import Path
from typing import Final

from coinstream.errors import FeedError
from coinstream.feeds.exchanges import adapters, exchange_at
from coinstream.feeds.exchanges.base import ExchangeAdapter
from coinstream.feeds.instrument_lists import FOLDER, encode
from coinstream.feeds.instruments import Instrument

_LARGEST: Final = 614_400
"""Bytes that all lists may take together."""


def replies(path: Path) -> list[tuple[str, bytes]]:
    """Return the addresses and bodies of a file of REST replies."""
    found = []
    with gzip.open(path, "rb") as stream:
        for line in stream:
            url, arrow, rest = line.partition(b" -> ")
            if arrow:
                found.append((url.decode(), rest.partition(b": ")[2].strip()))
    return found


def main(folder: Path) -> int:
    """Write one list per exchange and print how many instruments it has."""
    found: dict[str, list[Instrument]] = {}
    readers: dict[str, ExchangeAdapter] = {}
    skipped = []
    for path in sorted(folder.glob("*.instruments.gz")):
        for url, body in replies(path):
            exchange = exchange_at(url)
            if exchange is None:
                skipped.append(f"{path.name}: no adapter for {url}")
                continue
            try:
                # One reader for all replies: some exchanges spread their list over several.
                reader = readers.setdefault(exchange, adapters()[exchange]())
                found.setdefault(exchange, []).extend(reader.parse_instruments(url, body))
            except FeedError as error:
                skipped.append(f"{path.name}: {error}")
    FOLDER.mkdir(parents=True, exist_ok=True)
    for exchange, instruments in sorted(found.items()):
        if instruments:
            (FOLDER / f"{exchange}.jsonl.gz").write_bytes(encode(instruments))
            print(f"{exchange}: {len(instruments)} instruments")
    for line in skipped:
        print(line, file=sys.stderr)
    size = sum(path.stat().st_size for path in FOLDER.glob("*.gz"))
    print(f"{size:,} bytes in all")
    return 0 if size <= _LARGEST else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
