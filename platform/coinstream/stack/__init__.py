"""Run the broker, Dagster's processes and a first run for `coinstream up`, owned by one process.

Each child has a supervisor process that stops it when the owner exits for any reason.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Final

from coinstream.errors import PlatformError
from coinstream.local_broker import LocalBroker, broker_home, find_broker
from coinstream.local_broker.process_supervisor import adopt_orphans, kill_descendants
from coinstream.local_broker.properties import is_free
from coinstream.settings import BrokerSettings, HomeSettings, LakeSettings
from coinstream.stack.paths import HOST, InstancePaths, reserve_port
from coinstream.stack.process import (
    EXPLORER_PORT,
    DagsterClient,
    SupervisedProcess,
    explorer_command,
    explorer_url,
)

Say = Callable[[str], None]

_READY_S: Final = 120.0
_CODE_SERVER_S: Final = 90.0
_POLL_S: Final = 0.1
_DOCS_PORT: Final = 3010


class Stack:
    """Processes of one platform, started by `running`."""

    def __init__(self, paths: InstancePaths, say: Say) -> None:
        self._paths = paths
        self._say = say
        self._children: list[SupervisedProcess] = []
        self._local: LocalBroker | None = None
        self._since = time.time()
        self._docs_port: int | None = None
        self._explorer_port = EXPLORER_PORT

    @contextmanager
    def running(self, web_port: int) -> Iterator[DagsterClient]:
        """Run the platform for the duration of the block.

        Raises:
            PlatformError, LocalBrokerError: a process cannot be started; the message names its log.
        """
        # If a supervisor is killed, its command becomes a child of this process.
        adopt_orphans()
        with ExitStack() as stack:
            stack.callback(kill_descendants)
            stack.callback(self._stop_broker)
            stack.callback(self._stop_children)
            code_port = reserve_port(0)
            self._paths.prepare(code_port)
            docs_port = None if LakeSettings().docs_url else reserve_port(_DOCS_PORT)
            if docs_port is not None:
                self._paths.docs_url = f"http://{HOST}:{docs_port}"
            self._explorer_port = reserve_port(EXPLORER_PORT)
            self._paths.explorer_url = f"http://{HOST}:{self._explorer_port}"
            # Start Dagster together with the broker, because it takes the longest to load.
            url = self._paths.ui_url = f"http://{HOST}:{web_port}"
            self._start_code_server(code_port)
            self._start_web_server(web_port, code_port)
            self._start_broker()
            self._wait_listening(code_port)
            self._start_daemon()
            self._docs_port = docs_port
            web = DagsterClient(url, self.check)
            stack.callback(web.close)
            web.wait_ready(_READY_S)
            yield web

    def start_pages(self) -> None:
        """Start Data Docs and the explorer, which are not needed for the first messages.

        Raises:
            PlatformError: a process cannot be started.
        """
        if self._docs_port is not None:
            self._start_docs(self._docs_port)
        self._start_explorer()

    def check(self) -> None:
        """Check that all processes are running.

        Raises:
            PlatformError, LocalBrokerError: a process has exited; the message names it and its log.
        """
        for child in self._children:
            child.check()
        if self._local is not None:
            self._local.check()

    def watch(self) -> None:
        """Wait while all processes are running.

        Raises:
            PlatformError, LocalBrokerError: see `check`.
        """
        while True:
            self.check()
            time.sleep(_POLL_S)

    def _start_broker(self) -> None:
        settings, home = BrokerSettings(), HomeSettings()
        found = find_broker(settings, home)
        if found is not None:
            self._say(f"broker at {found.brokers} (runs already)")
            return
        port = home.broker_port if is_free(home.broker_port) else 0
        self._local = LocalBroker(broker_home(home), port=port)
        self._local.start()
        taken = "" if port or not home.broker_port else f" (port {home.broker_port} is taken)"
        self._say(f"broker at {self._local.bootstrap}{taken}")

    def _start_code_server(self, port: int) -> None:
        served = ["--module-name", "definitions", "--location-name", "coinstream"]
        where = ["--host", HOST, "--port", str(port), "--working-directory", str(self._paths.root)]
        instance = ["--inject-env-vars-from-instance", "--log-level", "warning"]
        command = _program("dagster", "api", "grpc", *where, *served, *instance)
        self._children.append(self._child("code server", command, self._paths.environment()))

    def _start_docs(self, port: int) -> None:
        command = [sys.executable, "-m", "coinstream", "lake", "docs", "--port", str(port), "--host", HOST]
        self._children.append(self._child("data docs", command, self._paths.environment()))

    def _start_explorer(self) -> None:
        home, port = self._paths.home, self._explorer_port
        command, environment = explorer_command(self._paths.root, home, HOST, port, self._paths.environment())
        self._children.append(self._child("explorer", command, environment))
        self._say(f"explorer at {explorer_url(home, HOST, port)}")

    def _start_web_server(self, web_port: int, code_port: int) -> None:
        # Runs last updated before this time belong to an earlier `up` and have no process.
        environment = {**self._paths.environment(), "COINSTREAM_UP_SINCE": str(self._since)}
        web = [
            *("--host", HOST, "--port", str(web_port)),
            *("--workspace", str(self._paths.workspace), "--wait-for", f"{HOST}:{code_port}"),
        ]
        self._children.append(self._child("web server", _program("resources.webserver", *web), environment))

    def _start_daemon(self) -> None:
        workspace = ("--workspace", str(self._paths.workspace))
        daemon = _program("dagster._daemon", "run", "--log-level", "warning", *workspace)
        self._children.append(self._child("daemon", daemon, self._paths.environment()))

    def _child(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> SupervisedProcess:
        log = self._paths.logs / f"{name.replace(' ', '-')}.log"
        return SupervisedProcess(name, command, log=log, environment=environment, folder=self._paths.root)

    def _wait_listening(self, port: int) -> None:
        deadline = time.monotonic() + _CODE_SERVER_S
        while is_free(port):
            self.check()
            if time.monotonic() > deadline:
                log = self._children[0].log
                raise PlatformError(
                    f"the code server did not listen within {_CODE_SERVER_S:g} s; its log is {log}"
                )
            time.sleep(_POLL_S)

    def _stop_children(self) -> None:
        # Stop the daemon and the web server first, so that no further run is launched.
        for child in reversed(self._children):
            child.release()
        for child in self._children:
            child.wait()

    def _stop_broker(self) -> None:
        # Stop the broker last, because stopping runs flush their messages.
        if self._local is not None:
            self._local.stop()


def _program(module: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "resources.fast_start", module, *arguments]
