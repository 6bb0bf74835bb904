"""Send GraphQL requests to Dagster's web server."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import httpx

from coinstream.errors import PlatformError

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

    Args:
        url: URL of the server.
        check: called while waiting; raises to stop waiting.
    """

    def __init__(self, url: str, check: Callable[[], None]) -> None:
        self.url = url
        self._check = check
        self._http = httpx.Client(base_url=url, timeout=30, trust_env=False)

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
