"""Run supervised processes, build the explorer's command, and send GraphQL requests to Dagster."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import httpx
from filelock import FileLock

from coinstream.errors import PlatformError
from coinstream.files import private_folder, whole_file
from coinstream.local_broker import process_supervisor

_SUPERVISOR: Final = Path(process_supervisor.__file__)
_TAIL_LINES: Final = 8


class SupervisedProcess:
    """Command with a supervisor process and a log.

    Args:
        name: name in messages.
        command: command line.
        log: file of its output, which is overwritten.
        environment: environment of the command.
        folder: working directory.
        grace_s: time for it and its descendants to stop before they are killed, in seconds.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        log: Path,
        environment: Mapping[str, str],
        folder: Path,
        grace_s: float = 20.0,
    ) -> None:
        self.name = name
        self.log = log
        self._grace_s = grace_s
        with log.open("wb") as output:
            self._supervisor = subprocess.Popen(
                [sys.executable, "-I", str(_SUPERVISOR), str(grace_s), *command],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env=dict(environment),
                # Ctrl-C reaches only the owner, which then stops its children in order.
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Return the process id of the supervisor, whose descendants are the command and its children."""
        return self._supervisor.pid

    def check(self) -> None:
        """Check that the process is running.

        Raises:
            PlatformError: it has exited; the message contains its exit code and the end of its log.
        """
        code = self._supervisor.poll()
        if code is not None:
            raise PlatformError(
                f"the {self.name} ended (exit code {code}); its log is {self.log}{self._log_tail()}"
            )

    def release(self) -> None:
        """Request the supervisor to stop it, without waiting."""
        if self._supervisor.stdin is not None and not self._supervisor.stdin.closed:
            self._supervisor.stdin.close()

    def wait(self) -> None:
        """Wait until it and its descendants have exited."""
        try:
            self._supervisor.wait(self._grace_s * 2)
        except subprocess.TimeoutExpired:
            # Killing the supervisor kills its command; the owner adopts and kills the orphans.
            self._supervisor.kill()
            self._supervisor.wait()

    def _log_tail(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines() if self.log.is_file() else []
        said = [line for line in lines if line.strip()][-_TAIL_LINES:]
        return ". It ended with:\n  " + "\n  ".join(said) if said else ""


NOTEBOOK: Final = "notebooks/market.py"
TOKEN_FILE: Final = "explorer-token"  # noqa: S105 (the name of a file)
EXPLORER_PORT: Final = 2718
"""Port of the explorer, unless it is taken."""


def explorer_token(home: Path) -> str:
    """Return the explorer's token, which is created at first use and readable by this user only.

    Raises:
        PlatformError: the home cannot be written.
    """
    path = home / TOKEN_FILE
    try:
        private_folder(home)
        if not path.is_file():
            _create_token(path)
        return path.read_text().strip()
    except OSError as error:
        raise PlatformError(f"cannot keep the explorer's token in {path}: {error.strerror}") from error


def _create_token(path: Path) -> None:
    # `up` and `explore` may do so at the same time: the first one's token stays.
    with FileLock(path.with_name(f".{TOKEN_FILE}.lock")):
        if not path.is_file():
            with whole_file(path) as draft:
                draft.touch(0o600)
                draft.write_text(secrets.token_urlsafe(16))


def explorer_url(home: Path, host: str, port: int) -> str:
    """Return the URL of the explorer with its token."""
    return f"http://{host}:{port}?access_token={explorer_token(home)}"


def explorer_command(
    root: Path,
    home: Path,
    host: str,
    port: int,
    environment: Mapping[str, str],
    *,
    open_browser: bool = False,
) -> tuple[list[str], dict[str, str]]:
    """Return the command that serves the explorer, and its environment.

    Args:
        root: folder of the code location, which contains the notebook.
        home: folder with the token, which is passed as a file and never as an argument.
        host: address to listen on.
        port: port to listen on.
        environment: environment of the process.
        open_browser: whether the server opens a browser as soon as it listens.

    Raises:
        PlatformError: the notebook is missing, or the token cannot be kept.
    """
    notebook = root / NOTEBOOK
    if not notebook.is_file():
        raise PlatformError(f"{notebook} is missing: run the explorer in the folder of a complete clone")
    explorer_token(home)
    paths = [str(root / "platform"), environment.get("PYTHONPATH", "")]
    own = {
        "COINSTREAM_HOME": str(home),
        "MARIMO_SKIP_UPDATE_CHECK": "1",
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
    }
    command = [
        *(sys.executable, "-m", "marimo", "--log-level", "warn", "run", str(notebook)),
        *([] if open_browser else ["--headless"]),
        *("--host", host, "--port", str(port)),
        *("--token", "--token-password-file", str(home / TOKEN_FILE)),
    ]
    return command, {**environment, **own}


_POLL_S: Final = 0.2
_LOCATION: Final = """{ workspaceOrError { ... on Workspace { locationEntries { name loadStatus
  locationOrLoadError { __typename ... on PythonError { message } } } } ... on PythonError { message } } }"""
_LAUNCH: Final = """mutation ($params: ExecutionParams!) { launchRun(executionParams: $params) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
  ... on RunConfigValidationInvalid { errors { message } } } }"""
_RUN: Final = """query ($id: ID!) { runOrError(runId: $id) { __typename ... on Run { status } } }"""
_ENDED: Final = {"SUCCESS", "FAILURE", "CANCELED"}


class DagsterClientError(PlatformError):
    """Dagster refused a request, a run failed, or a timeout passed."""


class DagsterUnreachableError(DagsterClientError):
    """The web server does not answer."""


class DagsterClient:
    """Client of Dagster's web server.

    The client of dagster-graphql is not used: it imports dagster, which the library does not.

    Args:
        url: URL of the server.
        check: called while waiting; raises to stop waiting.
        timeout_s: timeout of a request, in seconds. It is long, because a busy server answers late and a
            repeated request could launch a second run.
    """

    def __init__(self, url: str, check: Callable[[], None], timeout_s: float = 300) -> None:
        self.url = url
        self._check = check
        self._http = httpx.Client(base_url=url, timeout=timeout_s, trust_env=False)

    def wait_ready(self, timeout_s: float) -> None:
        """Wait until the code location is loaded.

        Raises:
            DagsterClientError: it cannot be loaded in time.
        """
        self._wait(self._is_ready, timeout_s, "the web UI to load the code location")

    def launch(self, job: str, *, config: Mapping[str, Any], tags: Mapping[str, str], **selector: Any) -> str:
        """Launch a run of a job; return its id.

        Raises:
            DagsterClientError: Dagster refused the run.
        """
        where = {"repositoryLocationName": "coinstream", "repositoryName": "__repository__"}
        params = {
            "selector": {**where, "pipelineName": job, **selector},
            "runConfigData": config,
            "mode": "default",
            "executionMetadata": {"tags": [{"key": key, "value": value} for key, value in tags.items()]},
        }
        answer = self.ask(_LAUNCH, params=params)["launchRun"]
        if answer["__typename"] != "LaunchRunSuccess":
            raise DagsterClientError(f"Dagster refuses to launch {job}: {answer}")
        return str(answer["run"]["runId"])

    def wait_run(self, run_id: str, timeout_s: float) -> None:
        """Wait until a run has succeeded.

        Raises:
            DagsterClientError: the run failed or did not end in time; the message contains its URL.
        """
        page = f"{self.url}/runs/{run_id}"
        status = ""

        def has_ended() -> bool:
            nonlocal status
            try:
                status = str(self.ask(_RUN, id=run_id)["runOrError"].get("status"))
            except DagsterUnreachableError:
                return False  # a busy machine; whether the server still runs is checked anyway
            return status in _ENDED

        self._wait(has_ended, timeout_s, f"the run {page}")
        if status != "SUCCESS":
            raise DagsterClientError(f"the run ended with {status}; see {page}")

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        """Return the data of a GraphQL query.

        Raises:
            DagsterClientError: the query was refused, or the server does not answer.
        """
        try:
            reply = self._http.post("/graphql", json={"query": query, "variables": variables})
            if reply.status_code != httpx.codes.BAD_REQUEST:  # Its body says what is wrong with the query.
                reply.raise_for_status()
        except httpx.HTTPError as error:
            raise DagsterUnreachableError(f"{self.url} does not answer: {error}") from error
        body = reply.json()
        if body.get("errors"):
            raise DagsterClientError(f"{self.url} refuses a query: {body['errors'][0]['message']}")
        return dict(body["data"])

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _is_ready(self) -> bool:
        try:
            entries = self.ask(_LOCATION)["workspaceOrError"].get("locationEntries", [])
        except DagsterUnreachableError:
            return False
        for entry in entries:
            found = entry["locationOrLoadError"] or {}
            if found.get("__typename") == "PythonError":
                raise DagsterClientError(f"the code location cannot be loaded: {found['message']}")
        return any(entry["loadStatus"] == "LOADED" for entry in entries)

    def _wait(self, condition: Callable[[], bool], timeout_s: float, what: str) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            self._check()
            if time.monotonic() > deadline:
                raise DagsterClientError(f"waited {timeout_s:g} s for {what}")
            time.sleep(_POLL_S)
