"""The typed work that every peer does, and the clock. Needs msgspec only."""

from __future__ import annotations

import json
import os
import time
from datetime import datetime
from importlib.metadata import version
from typing import Annotated

import msgspec

Text = Annotated[str, msgspec.Meta(min_length=1)]
Quantity = Annotated[float, msgspec.Meta(ge=0)]
Moment = Annotated[datetime, msgspec.Meta(tz=True)]


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


class Tally:
    """Counts; when all are there it prints the rate and ends the process."""

    def __init__(self, library: str, messages: int) -> None:
        self._library = library
        self._messages = messages
        self._seen = 0
        self._started = 0.0
        self.crossed = 0

    def add(self, message: Level1) -> None:
        if not self._seen:
            self._started = time.perf_counter()
        if message.best_bid > message.best_ask:
            self.crossed += 1
        self._seen += 1
        if self._seen == self._messages:
            self._end()

    def _end(self) -> None:
        rate = self._messages / (time.perf_counter() - self._started)
        print(json.dumps({"messages_per_second": rate, "version": version(self._library)}), flush=True)
        # Nobody's way of stopping is measured here.
        os._exit(0)
