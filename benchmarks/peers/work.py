"""The typed work that every peer does, and its clock. Needs msgspec, and pyarrow where rows are written."""

from __future__ import annotations

import itertools
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import msgspec

Text = Annotated[str, msgspec.Meta(min_length=1)]
Quantity = Annotated[float, msgspec.Meta(ge=0)]
Moment = Annotated[datetime, msgspec.Meta(tz=True)]
FILE_ROWS = 50_000


class Level1(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True, gc=False):
    """As in the platform."""

    exchange_id: Text
    symbol: Text
    best_bid: Quantity
    best_ask: Quantity
    bid_size: Quantity
    ask_size: Quantity
    timestamp: Moment
    last_updated: Moment


decode = msgspec.json.Decoder(Level1).decode
encode = msgspec.json.Encoder().encode


class Job(msgspec.Struct, frozen=True):
    """Work of a peer and its parameters.

    Attributes:
        kind: `produce`, `consume` or `land`.
        bootstrap: addresses of the cluster.
        topic: to write to or to read from its beginning.
        group: the consumer group.
        messages: how many.
        quotes: a file of messages, one per line, that are sent repeatedly.
        folder: where rows go.
        linger_ms: longest wait of a message for its batch.
        batch_bytes: largest batch.
    """

    kind: str
    bootstrap: str
    topic: str
    group: str
    messages: int
    quotes: str
    folder: str
    linger_ms: int
    batch_bytes: int


def run(library: str, **kinds: Callable[[Job], float]) -> None:
    """Do the job of the command line and print its rate."""
    job = msgspec.json.decode(sys.argv[1], type=Job)
    report(library, kinds[job.kind](job))


def report(library: str, rate: float) -> None:
    """Print the rate and end the process: how a library stops is not measured."""
    print(json.dumps({"messages_per_second": rate, "version": version(library)}), flush=True)
    os._exit(0)


def prepared(job: Job) -> Iterator[Level1]:
    """Return the messages to send, created before the measurement."""
    quotes = [decode(line) for line in Path(job.quotes).read_bytes().splitlines()]
    return itertools.islice(itertools.cycle(quotes), job.messages)


def milliseconds(message: Level1) -> int:
    """Return the record's timestamp."""
    return int(message.last_updated.timestamp() * 1000)


class Tally:
    """Counts; calls `end` with the rate, from the first message to the last, when all are there."""

    def __init__(self, library: str, job: Job) -> None:
        self._library = library
        self._messages = job.messages
        self._seen = 0
        self._started = 0.0
        self.crossed = 0

    def add(self, message: Level1) -> None:
        """One message."""
        self.start()
        if message.best_bid > message.best_ask:
            self.crossed += 1
        self.done(1)

    def start(self) -> None:
        """Start the clock at the first message."""
        if not self._started:
            self._started = time.perf_counter()

    def done(self, count: int) -> None:
        """Count messages that were handled or written."""
        self._seen += count
        if self._seen >= self._messages:
            report(self._library, self._messages / (time.perf_counter() - self._started))


class RowWriter:
    """Parquet files of typed rows, for libraries that have no sink of their own."""

    def __init__(self, folder: str) -> None:
        import pyarrow as pa

        moment = pa.timestamp("us", tz="UTC")
        kinds = {str: pa.string(), float: pa.float64(), datetime: moment}
        hints = {"exchange_id": str, "symbol": str, "timestamp": datetime, "last_updated": datetime}
        self._schema = pa.schema([(name, kinds[hints.get(name, float)]) for name in Level1.__struct_fields__])
        self._folder = folder
        self._files = itertools.count()

    def write(self, rows: Sequence[Level1]) -> None:
        """One file more."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        columns = {name: [getattr(row, name) for row in rows] for name in self._schema.names}
        table = pa.table(columns, schema=self._schema)
        pq.write_table(table, f"{self._folder}/{next(self._files)}.parquet", compression="zstd")
