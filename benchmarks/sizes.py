"""Define how much each benchmark measures in `bench all`, which must end within a quarter of an hour.

Options that are not listed have the defaults of the benchmark.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

Sizes = Mapping[str, Mapping[str, Any]]
"""Options of each benchmark by its name."""

FULL: Final[Sizes] = {
    "consume": {"messages": 500_000, "repetitions": 2},
    "feeds": {"messages": 100_000},
    "scale": {"repetitions": 2},
    "peers": {"messages": 100_000, "repetitions": 1},
}
"""Sizes of `bench all`: about 13 minutes on two cores without other load."""

QUICK: Final[Sizes] = {
    "produce": {"messages": 200_000, "repetitions": 3},
    "latency": {"seconds": 4.0, "warmup": 2.0, "repetitions": 1, "broker_warmup": 15.0},
    "consume": {"messages": 200_000, "repetitions": 1},
    "feeds": {"messages": 60_000, "repetitions": 2, "ccxt_seconds": 3.0},
    "land": {"messages": 500_000, "repetitions": 1},
    "candles": {"rows": 500_000, "repetitions": 1},
    "scale": {
        **{"messages": 60_000, "repetitions": 1, "partitions": "1,48", "exchanges": "1,64"},
        **{"symbols": "10,1000", "members": "1,2"},
    },
    "peers": {"messages": 50_000, "repetitions": 1},
    "soak": {"messages": 4_000_000},
}
"""Sizes of `bench all --quick`: about 5 minutes. The figures vary more from run to run."""
