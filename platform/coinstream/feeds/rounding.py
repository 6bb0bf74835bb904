"""Count prices changed by rounding during a feed run."""

from __future__ import annotations

from collections import Counter

from coinstream.monitoring.metrics import METRICS
from coinstream.precision import PriceRounder
from coinstream.serialization import MessageSerializer


class RoundingStats:
    """Counts of prices changed by rounding, also exported as metrics."""

    def __init__(self, client: object) -> None:
        serializer = getattr(client, "encoder", None)
        self._rounder = serializer.rounder if isinstance(serializer, MessageSerializer) else PriceRounder()
        self._before = Counter(self._rounder.rounded), Counter(self._rounder.lossy)
        self._exported = self._before

    def rounded(self) -> Counter[str]:
        """Return the number of changed prices by `type.field`."""
        return self._rounder.rounded - self._before[0]

    def lossy(self) -> Counter[str]:
        """Return the number of prices changed by more than one millionth, by `type.field`."""
        return self._rounder.lossy - self._before[1]

    def export(self) -> None:
        """Add the counts since the last call to the metrics."""
        now = Counter(self._rounder.rounded), Counter(self._rounder.lossy)
        for is_lossy, count, before in zip((False, True), now, self._exported, strict=True):
            for field_name, more in (count - before).items():
                METRICS.prices_rounded.labels(field_name, str(is_lossy).lower()).inc(more)
        self._exported = now
