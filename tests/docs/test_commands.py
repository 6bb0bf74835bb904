"""Run the commands and snippets of the pages on a real broker; test_walkthroughs.py follows the how-tos."""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from coinstream.feeds.registry import sample_path
from coinstream.local_broker.properties import free_ports
from scripts.reference import known_variables
from tests.docs.handling import FOREIGN, allowed_exits, call, in_place, is_lasting, look_at, why_elsewhere
from tests.docs.pages import ROOT, Page, is_followed, pages
from tests.support import wait_until

ALL = {page.name: page for page in pages()}
# The first of them waits for the broker and for everything that is put into it.
pytestmark = [pytest.mark.timeout(1200), pytest.mark.xdist_group("docs")]
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
def environment(platform: dict[str, str]) -> Iterator[dict[str, str]]:
    """Yield the variables of the shared platform, which commands in this process use too."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in platform.items():
            patch.setenv(name, value)
        patch.setenv("COLUMNS", "200")
        yield dict(os.environ)


class Reader:
    """Types what a page says, in a folder of its own, and stops what it has started."""

    def __init__(self, page: Page, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self.environment = dict(environment)
        self.exported: dict[str, str] = {}
        self.running: subprocess.Popen[bytes] | None = None
        names = ("simulated", "webhook", "metrics", "docs")
        self.places = dict(zip(names, map(str, free_ports(len(names))), strict=True))
        recording = sample_path("binance-spot.gz")
        session = folder / "recorded-session"
        session.mkdir()
        (session / recording.name).symlink_to(recording)
        self.places |= {"recording": str(recording), "session": str(session)}
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
        try:
            if found := re.search(r"http://127\.0\.0\.1:(\d+)", (self.folder / "output.txt").read_text()):
                # A server names its address before it listens; an interpreter that starts ends with 1.
                port = int(found[1])
                wait_until(lambda: _listens(port) or process.poll() is not None, 300, f"port {port} is open")
            code = _interrupted(process)
        finally:
            with suppress(ProcessLookupError):
                process.kill()
        if code in (0, 130, -signal.SIGINT):
            return None
        told = (self.folder / "output.txt").read_text()[-2000:]
        return f"{process.args!r} ended with {code} at Ctrl-C: {told}"


def _listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def _interrupted(process: subprocess.Popen[bytes]) -> int:
    # Python ignores a KeyboardInterrupt in a destructor, which is where a starting server may be.
    for _ in range(5):
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            return process.wait(30)
    raise AssertionError(f"{process.args!r} goes on after five times Ctrl-C")


@pytest.mark.system
@pytest.mark.parametrize(
    "name", [name for name, page in ALL.items() if page.commands and not is_followed(name)]
)
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
