"""The pool of idempotent producers: a key always goes through the same one."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from typing import Final

import mmh3

from coinstream.producer.config import Profile, pooled_config, profile_chooser
from coinstream.producer.delivery import Ledger
from coinstream.producer.pooled_producer import Lane
from coinstream.producer.statistics import BatchSizes
from coinstream.settings import BrokerSettings, ProducerSettings

BUSY_S: Final = 0.004
"""How often outstanding messages are looked after, in seconds."""
IDLE_S: Final = 0.1
COUNT_S: Final = 0.25
"""How often what was acknowledged is counted for the metrics, in seconds: many calls at once cost less."""


class ProducerPool:
    """`pool_size` lanes per profile, made when first used, each an idempotent producer.

    Order holds per key: a key always goes through the same lane, for one topic always in the same
    profile, also after a producer was replaced. By default the keys of a topic share a lane and the topics
    are spread by mmh3 of their names: a producer then fills its batches, and few threads share the cores.
    `spread="key"` spreads the keys of each topic by mmh3 of the key instead.
    """

    def __init__(self, brokers: BrokerSettings, settings: ProducerSettings, ledger: Ledger) -> None:
        self._brokers = brokers
        self._settings = settings
        self._ledger = ledger
        self._by_key = settings.spread == "key"
        self.profile_of = profile_chooser(settings)
        self._lanes: dict[tuple[str, int], Lane] = {}
        self._lock = threading.Lock()
        self._turn = itertools.count()
        self._serving = threading.RLock()  # a future's callback may flush
        self._stopping = threading.Event()
        self._polled = 0.0
        self._caretaker = threading.Thread(target=self._care, name="coinstream-producers", daemon=True)
        self._caretaker.start()

    def __len__(self) -> int:
        """Messages that are not yet acknowledged."""
        return sum(len(lane) for lane in self.lanes)

    @property
    def lanes(self) -> tuple[Lane, ...]:
        """The lanes in use."""
        return tuple(self._lanes.values())

    def find(self, topic: str, key: bytes) -> Lane:
        """The lane of a key."""
        number = mmh3.hash(key if self._by_key else topic, signed=False) % self._settings.pool_size
        return self._lane(self.profile_of(topic), number)

    def get_producer(self, topic: str = "") -> Lane:
        """The next lane, round-robin: for messages without a key, whose order is nobody's."""
        return self._lane(self.profile_of(topic), next(self._turn) % self._settings.pool_size)

    def poll(self) -> None:
        """Serve all lanes once, without waiting, unless that was done just now."""
        now = time.monotonic()
        if now - self._polled < BUSY_S / 2:
            return
        self._polled = now
        for lane in self.lanes:
            lane.poll()

    def flush(self, timeout_s: float) -> int:
        """Wait until all is acknowledged or given up; how many messages are not when the time is over."""
        deadline = time.monotonic() + timeout_s
        # A lane that is mended while another is flushed has messages again: look until none has.
        while (waiting := len(self)) and (left := deadline - time.monotonic()) > 0:
            for lane in self.lanes:
                lane.flush(min(left, 0.2))
        # Reports that the caretaker has taken up count as served before it has dealt with them.
        if self._serving.acquire(timeout=max(deadline - time.monotonic(), 0.0)):
            self._serving.release()
        self._ledger.receipts.count()
        # As it was above: by now statistics may wait, which librdkafka counts with the messages.
        return waiting

    def close(self) -> None:
        """Stop. Flush first: what is outstanding now is given up."""
        self._stopping.set()
        self._caretaker.join()
        for lane in self.lanes:
            lane.close()

    def _lane(self, profile: Profile, number: int) -> Lane:
        lane = self._lanes.get((profile.name, number))
        if lane is not None:
            return lane
        with self._lock:
            lane = self._lanes.get((profile.name, number))
            if lane is None:
                lane = self._lanes[profile.name, number] = self._open(profile, number)
            return lane

    def _open(self, profile: Profile, number: int) -> Lane:
        settings = self._settings
        return Lane(
            pooled_config(self._brokers, settings, profile, f"coinstream-{profile.name}-{number}"),
            self._ledger,
            max_block_ms=settings.max_block_ms,
            delivery_timeout_ms=settings.delivery_timeout_ms,
            retry_backoff_ms=settings.retry_backoff_ms,
            on_statistics=BatchSizes(self._ledger.metrics),
        )

    def _care(self) -> None:
        # While a caller publishes it polls by itself: two threads that serve reports fight for the GIL.
        next_count = 0.0
        for pause in self._pauses():
            self._stopping.wait(pause)
            now = time.monotonic()
            if now - self._polled > BUSY_S:
                with self._serving:
                    for lane in self.lanes:
                        lane.poll()
            if now >= next_count:
                next_count = now + COUNT_S
                self._ledger.receipts.count()

    def _pauses(self) -> Iterator[float]:
        while not self._stopping.is_set():
            yield BUSY_S if len(self) else IDLE_S
