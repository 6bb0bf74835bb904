"""Write messages to systems outside the platform, at least once and in order per key.

A sink is a class with `write` and `close`, registered under a name and run by `coinstream sink run NAME`.
"""

from coinstream.sinks.base import JSONL, SINKS, Sink, SinkEntry, open_sink, register_sink
from coinstream.sinks.runner import PARQUET, POSTGRES, run_sink

__all__ = [
    "JSONL",
    "PARQUET",
    "POSTGRES",
    "SINKS",
    "Sink",
    "SinkEntry",
    "open_sink",
    "register_sink",
    "run_sink",
]
