"""Track the deliveries of a client: their order, their count and the first unreported error."""

from __future__ import annotations

import itertools
import threading

from coinstream.errors import CoinstreamError, ProduceError
from coinstream.monitoring.metrics import METRICS, Metrics
from coinstream.producer.delivery import Failure
from coinstream.producer.delivery_counter import DeliveryCounter


class DeliveryTracker:
    """Number, count and report the deliveries of all producers of a client. Thread-safe.

    Attributes:
        sequence: numbers the deliveries in the order of sending.
        counter: counts acknowledged messages.
    """

    def __init__(self, metrics: Metrics = METRICS) -> None:
        self.sequence = itertools.count()
        self.metrics = metrics
        self.counter = DeliveryCounter(metrics)
        self._lock = threading.Lock()
        self._first: CoinstreamError | None = None
        self._more = 0

    def give_up(self, failure: Failure) -> None:
        """Report a message that will not be sent again."""
        error = failure.as_error()
        self.count_error(error)
        failure.delivery.fail(error, self.keep)

    def count_error(self, error: ProduceError) -> None:
        """Count an error in the metrics."""
        self.metrics.producer_errors.labels(error.topic, error.error_type).inc()

    def keep(self, error: CoinstreamError) -> None:
        """Keep the first error until the next call raises it."""
        with self._lock:
            if self._first is None:
                self._first = error
            else:
                self._more += 1

    def raise_first(self) -> None:
        """Raise the kept error, once.

        Raises:
            ProduceError, AuthenticationError: an earlier message was not acknowledged.
        """
        if self._first is None:
            return
        with self._lock:
            error, more = self._first, self._more
            self._first, self._more = None, 0
        if error is not None:
            if more:
                error.add_note(f"{more} more message(s) failed after this one")
            raise error
