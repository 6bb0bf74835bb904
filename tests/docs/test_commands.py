"""Run every documented command against a real broker."""

from __future__ import annotations

import io
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout, suppress
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from coinstream.cli import main
from coinstream.client import RedpandaClient
from coinstream.dlq.entry import DeadLetter, dead_letter_headers
from coinstream.feeds.registry import sample_path
from coinstream.local_broker import LocalBroker
from coinstream.local_broker.properties import free_ports
from coinstream.settings import BrokerSettings
from scripts.reference import known_variables
from tests.docs.handling import FOREIGN, allowed_exits, in_place, is_lasting, why_elsewhere
from tests.docs.pages import ROOT, Page, pages
from tests.support import wait_until

ALL = {page.name: page for page in pages()}
# The first of them waits for the broker and for everything that is put into it.
pytestmark = pytest.mark.timeout(1200)
_SHELL = re.compile(r"[|&;<>$`]|^\w+=")
_ASKS = "topics delete"
_ANSWER = b"y\n"
_PRELUDE = """
import threading
from datetime import UTC, datetime
from coinstream.client import RedpandaClient
from coinstream.messages import Level1, Ohlcv, Price
from coinstream.settings import BrokerSettings
now = datetime.now(UTC)
quote = Level1("binance", "BTC/USDT", 61000.1, 61000.2, 1.5, 0.25, now, now)
quotes = messages = [quote]
prices = [Price("binance", "BTC/USDT", 61000.1, now)]
candles = [Ohlcv("binance", "BTC/USDT", "1m", now, now, 1.0, 2.0, 0.5, 1.5, 9.0, now)]
stop = threading.Event()
threading.Timer(5, stop.set).start()
client = RedpandaClient(BrokerSettings())
"""
NOT_RUN = {
    "docs/local-broker.md": "starts three nodes; tests/local_broker does",
    "docs/how-to/add-a-feed.md": "two lines of examples/extension, which tests/examples runs",
}
"""Pages whose Python is compiled only, and why."""


@pytest.fixture(scope="module")
def bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Yield a broker of the pages' own: they delete, replay and land topics by the names that people use."""
    with LocalBroker(tmp_path_factory.mktemp("docs-broker"), nodes=1, port=0) as local:
        yield local.bootstrap


@pytest.fixture(scope="module")
def environment(bootstrap: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Yield a platform with something in it: topics, quotes, tables, a group, a dead letter."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REDPANDA_BROKERS", bootstrap)
        patch.setenv("COINSTREAM_HOME", str(tmp_path_factory.mktemp("docs-home")))
        patch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
        patch.setenv("COLUMNS", "200")
        for words in ("topics apply", "feed run binance --speed max --limit 5000 --json", "lake land --json"):
            assert call(*words.split())[0] == 0
        admin = AdminClient({"bootstrap.servers": bootstrap})
        for made in admin.create_topics(
            [
                NewTopic(name, 4, replication_factor=1)
                for name in ("crypto-level1-again", "crypto-old", "spreads", "audit")
            ]
        ).values():
            made.result(30)
        bury(bootstrap)
        yield dict(os.environ)


def bury(bootstrap: str) -> None:
    letter = DeadLetter(
        *("crypto-level1", 3, 1200, 1_700_000_000_000, b"binance-BTC/USDT", b"{}", []),
        *("ValueError", "ValueError: no such account", 9, "strategy", "2026-11-02T10:00:00.000Z"),
    )
    with RedpandaClient(BrokerSettings(brokers=bootstrap)) as client:
        client.send("crypto-level1.dlq", letter.key, letter.value, dead_letter_headers(letter)).result(30)


def call(*words: str) -> tuple[int, str]:
    """Run the command line in this process, which spares its start; its exit code, and what it said."""
    said = io.StringIO()
    with redirect_stdout(said), redirect_stderr(said), pytest.raises(SystemExit) as done:
        main(list(words))
    code = done.value.code or 0
    return code if isinstance(code, int) else 1, said.getvalue()


class Reader:
    """Types what a page says, in a folder of its own, and stops what it has started."""

    def __init__(self, page: Page, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self.environment = dict(environment)
        self.exported: dict[str, str] = {}
        self.running: subprocess.Popen[bytes] | None = None
        names = ("simulated", "webhook", "metrics", "docs")
        self.places = dict(zip(names, map(str, free_ports(len(names))), strict=True))
        self.places["recording"] = str(sample_path("binance-spot.gz"))
        for name in ("examples", "deploy", "docs"):
            (folder / name).symlink_to(ROOT / name)
        for name, text in page.files.items():
            (folder / name).write_text(text)

    def type(self, command: str) -> str | None:
        """Run it; what went wrong, None: nothing."""
        if why_elsewhere(command) is not None:
            return look_at(command)
        if command.startswith("export "):
            return self._export(command)
        placed = in_place(command, self.places)
        if is_lasting(command):
            return self._start(placed)
        if (
            self.exported
            or _ASKS in placed
            or _SHELL.search(re.sub(r'"[^"]*"', "", placed))
            or not placed.startswith("coinstream ")
        ):
            code, said = self._shell(placed)
        else:
            code, said = call(*shlex.split(placed)[1:])
        return None if code in allowed_exits(command) else f"exit code {code}: {said[-2000:]}"

    def _export(self, command: str) -> str | None:
        name, _, value = shlex.split(command)[1].partition("=")
        if name not in known_variables() | {"PYTHONPATH"}:
            return f"{name} is no setting"
        if not re.match(FOREIGN, command):
            self.exported[name] = value
            joined = os.pathsep.join([value, os.environ["PYTHONPATH"]])
            self.environment[name] = joined if name == "PYTHONPATH" else value
        return None

    def _shell(self, command: str) -> tuple[int, str]:
        done = subprocess.run(
            command,
            shell=True,
            cwd=self.folder,
            env=self.environment,
            input=_ANSWER,
            capture_output=True,
            timeout=120,
            check=False,
        )
        return done.returncode, (done.stdout + done.stderr).decode()

    def _start(self, command: str) -> str | None:
        wrong = self.stop()
        output = self.folder / "output.txt"
        with output.open("wb") as stream:
            self.running = subprocess.Popen(
                ["sh", "-c", f"exec {command}"],
                cwd=self.folder,
                env=self.environment | {"PYTHONUNBUFFERED": "1"},
                stdout=stream,
                stderr=subprocess.STDOUT,
            )
        process = self.running
        wait_until(
            lambda: output.read_bytes() or process.poll() is not None, 300, f"{command} says something"
        )
        if process.poll() is not None:
            self.running = None
            return f"ended at once with {process.returncode}: {output.read_text()[-2000:]}"
        return wrong

    def stop(self) -> str | None:
        """Ctrl-C for what still runs; what was wrong with its end."""
        if self.running is None:
            return None
        process, self.running = self.running, None
        process.send_signal(signal.SIGINT)
        try:
            code = process.wait(120)
        finally:
            with suppress(ProcessLookupError):
                process.kill()
        if code in (0, 130, -signal.SIGINT):
            return None
        told = (self.folder / "output.txt").read_text()[-2000:]
        return f"{process.args!r} ended with {code} at Ctrl-C: {told}"


def look_at(command: str) -> str | None:
    """Return what is wrong with a command that is not run: its options, its target, its files."""
    words = [word for word in shlex.split(command) if not re.match(r"[A-Z_]+=", word)]
    if words[0] == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        return None if words[1] in targets else f"the Makefile has no {words[1]}"
    if words[0] == "coinstream" and words[1] != "bench":
        return parse(words[1:])
    files = [word for word in words if re.match(r"(deploy|docs|examples|tests|scripts)/", word)]
    gone = [word for word in files if not (ROOT / word).exists()]
    return f"{gone} are not there" if gone else None


def parse(words: list[str]) -> str | None:
    """Whether the command line takes these words: with --help behind them they are only parsed."""
    code, said = call(*words, "--help")
    return None if code == 0 else said


@pytest.mark.system
@pytest.mark.parametrize("name", [name for name, page in ALL.items() if page.commands])
def test_the_commands_of_a_page_work(name: str, environment: dict[str, str], tmp_path: Path) -> None:
    reader, failed = Reader(ALL[name], tmp_path, environment), {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        try:
            for command in ALL[name].commands:
                wrong = reader.type(command)
                if wrong is not None:
                    failed[command] = wrong
        finally:
            wrong = reader.stop()
    assert wrong is None
    assert not failed, "\n\n".join(f"{command}\n    {wrong}" for command, wrong in failed.items())


@pytest.mark.system
@pytest.mark.parametrize("name", [name for name, page in ALL.items() if page.snippets])
def test_the_python_of_a_page_runs(name: str, environment: dict[str, str], tmp_path: Path) -> None:
    snippets = [compile(text, f"{name}, snippet {at}", "exec") for at, text in enumerate(ALL[name].snippets)]
    assert snippets
    if name in NOT_RUN:
        return
    for text in ALL[name].snippets:
        code = _PRELUDE + text.replace('"127.0.0.1:19092"', repr(environment["REDPANDA_BROKERS"]))
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == 0, f"{text}\n{done.stderr.decode()}"


def test_the_tables_name_nothing_that_is_gone() -> None:
    assert set(NOT_RUN) <= {name for name, page in ALL.items() if page.snippets}


def test_the_extraction_finds_what_people_type() -> None:
    assert "make up" in ALL["README.md"].commands
    assert "coinstream lag" in ALL["README.md"].commands
    assert "acme.py" in ALL["docs/tutorial.md"].files
    assert sum(len(page.commands) for page in ALL.values()) > 80


@pytest.mark.parametrize(
    ("command", "wrong"),
    [
        ("coinstream up --prot 3000", "No such option"),
        ("coinstream upp", "No such command"),
        ("make nothing", "no nothing"),
        ("docker compose -f deploy/nothing.yaml up", "not there"),
    ],
)
def test_what_is_not_run_is_still_looked_at(command: str, wrong: str) -> None:
    assert wrong in str(look_at(command))
