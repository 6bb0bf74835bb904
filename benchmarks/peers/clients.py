"""Other Python libraries doing the same typed work, each in a process of its own.

They have an environment of their own (quix-streams needs another `rich` than ours), whose lock holds hashes.
coinstream and confluent-kafka by hand run in ours, so that both stand on the same librdkafka.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, Literal

import pyarrow.dataset as ds

from benchmarks.common import quotes
from coinstream.errors import CoinstreamError
from coinstream.serialization import MessageSerializer
from coinstream.settings import BrokerSettings, HomeSettings, ProducerSettings

PEERS: Final = ("quixstreams", "faststream", "aiokafka")
REFERENCE: Final = "confluent"
OURS: Final = "coinstream"
Kind = Literal["produce", "consume", "land"]

PREPARED: Final = 50_000
_HERE: Final = Path(__file__).parent
_LOCK: Final = _HERE / "requirements.lock"
_TIMEOUT_S: Final = 600


def environment() -> Path:
    """Return the Python of the peers' environment, which is made on first use and when the lock changes.

    Raises:
        CoinstreamError: it cannot be made. Says why.
    """
    digest = hashlib.sha256(_LOCK.read_bytes()).hexdigest()[:12]
    folder = HomeSettings().home / "peers" / f"{digest}-py{sys.version_info.major}{sys.version_info.minor}"
    python = folder / "bin" / "python"
    if (folder / "complete").exists():
        return python
    print(f"making the environment of the peers in {folder} …", file=sys.stderr)
    uv = [sys.executable, "-m", "uv", "--quiet"]
    _run([*uv, "venv", "--clear", "--python", sys.executable, folder])
    _run([*uv, "pip", "install", "--python", python, "--require-hashes", "-r", _LOCK])
    (folder / "complete").touch()
    return python


def _run(words: list[str | Path]) -> None:
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise CoinstreamError(f"cannot make the peers' environment: {done.stderr.strip()[-500:]}")


@contextmanager
def quotes_file(exchange: str, messages: int) -> Iterator[Path]:
    """Yield a file of the messages that all clients send, encoded by the platform, one per line."""
    encode = MessageSerializer().encode
    with TemporaryDirectory(prefix="coinstream_bench_") as folder:
        file = Path(folder) / "quotes.jsonl"
        lines = (encode(quote)[0] for quote in quotes(exchange, min(PREPARED, messages)))
        file.write_bytes(b"\n".join(lines))
        yield file


class Peer:
    """One of the libraries. `version` is known after the first `rate`."""

    def __init__(self, name: str, python: Path) -> None:
        self.name = name
        self.version = ""
        self._python = python

    def rate(
        self,
        kind: Kind,
        brokers: BrokerSettings,
        topic: str,
        messages: int,
        quotes_at: Path | None = None,
    ) -> float:
        """Messages per second from the first message to the last.

        Raises:
            CoinstreamError: it failed, or its rows are not all there. Holds what it said.
        """
        settings = ProducerSettings()
        job = {
            "kind": kind,
            "bootstrap": brokers.brokers,
            "topic": topic,
            "group": f"bench-{self.name}-{time.time_ns()}",
            "messages": messages,
            "quotes": str(quotes_at or ""),
            "linger_ms": round(settings.throughput_linger_ms),
            "batch_bytes": settings.throughput_batch_bytes,
        }
        with TemporaryDirectory(prefix="coinstream_bench_") as folder:
            found = self._work(job | {"folder": folder}, folder)
            if kind == "land" and self.name != OURS:
                self._check_rows(folder, messages)
        self.version = found["version"]
        return float(found["messages_per_second"])

    def _work(self, job: dict[str, object], folder: str) -> dict[str, str]:
        done = subprocess.run(
            [str(self._python), str(_HERE / f"{self.name}_peer.py"), json.dumps(job)],
            capture_output=True,
            text=True,
            check=False,
            timeout=_TIMEOUT_S,
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(_HERE.parents[1])},
        )
        if done.returncode:
            raise CoinstreamError(f"{self.name} failed at {job['kind']}: {done.stderr.strip()[-800:]}")
        found: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
        return found

    def _check_rows(self, folder: str, messages: int) -> None:
        rows = ds.dataset(folder, format="parquet").count_rows()
        if rows < messages:
            raise CoinstreamError(f"{self.name} wrote {rows} rows of {messages} messages")
