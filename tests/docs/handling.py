"""Define how documented commands are run, and check those that a test cannot run."""

from __future__ import annotations

import io
import re
import shlex
from contextlib import redirect_stderr, redirect_stdout
from typing import Final

import pytest

from coinstream.cli import main
from tests.docs.pages import ROOT

ELSEWHERE: Final[dict[str, str]] = {
    r"git clone ": "there is no repository to clone from in a test",
    r"(\S+=\S+ )*make [a-z]": (
        "targets of the Makefile: they install, or run what other tests run; that they exist is tested"
    ),
    r"source \.venv": "the environment of the tests is active already",
    r"(\S+=\S+ )*coinstream up\b": "tests/orchestration/test_up.py starts, uses and stops it",
    r"(\S+=\S+ )*dagster dev": "what `coinstream up` runs; tests/orchestration",
    r"dagster definitions validate": "tests/orchestration/test_second_project.py",
    r"coinstream sink run postgres": "tests/sinks/test_postgres.py, on a real server",
    r"coinstream broker (start|stop)": "tests/local_broker does; one runs for these pages already",
    r"coinstream bench \w": "measures for minutes; `make bench` runs it",
    r"FEEDS=live ": "needs the network of the real exchanges",
    r"coinstream feed run \S+-live\b": "needs the network of the real exchanges",
    r"(docker|helm|kubectl|rpk) ": "needs a container engine or a cluster of containers; tests/deploy",
    r"cd deploy/prometheus && promtool": "Prometheus's own tool; tests/monitoring/test_prometheus.py",
    r"pip install ": "changes the environment of the tests; tests/examples runs what it installs",
    r"(\S+=\S+ )*pytest ": "tests that start tests",
    r"python scripts/update_jars.py": "updates the lock of the jars from the network",
    r"python docs/screenshots.py": "takes pictures of a running web UI",
    r"apt-get ": "changes the machine",
}
"""Not run, and why. They are still looked at: options must exist, and so must targets and files."""

FOLLOWED: Final = (
    r"git clone ",
    r"(\S+=\S+ )*make (up|-C)\b",
    r"dagster definitions validate",
)
"""Of these, what a walkthrough runs, with a `git` and a `make` that install nothing."""

LASTING: Final = (
    r"(\S+=\S+ )*make up\b",
    r"python examples/webhook.py",
    r"coinstream simulate(?!.*--duration)",
    r"coinstream top(?!ics)(?!.*--once)",
    r"coinstream lag .*--watch",
    r"coinstream metrics(?!.*--once)",
    r"coinstream lake docs",
    r"coinstream explore",
    r"coinstream tail(?!.*(--limit|--no-follow))",
    r"coinstream feed run$",
    r"coinstream feed run (?!.*--(limit|duration)).*--loop",
    r"coinstream feed run (?!.*--(limit|duration)).*--take-over",
    r"coinstream feed run path/to/(recording.gz|session/)$",
)
"""They run until Ctrl-C: started, heard of, and interrupted."""

EXITS: Final[dict[str, set[int]]] = {
    r"coinstream topics plan .*--exit-code": {0, 3},
    r"coinstream broker status": {3},
    r"coinstream health": {0, 1},
}
"""Exit codes other than 0 that are an answer, not a failure."""

FOREIGN: Final = r"export (REDPANDA|COINSTREAM_LAKE)_"
"""A foreign cluster or store: the name must be a setting, and the test uses its own."""

PLACES: Final[dict[str, str]] = {
    r"\bGROUP\b(?! BY)": "coinstream-landing",
    r"\bTOPIC\b": "crypto-level1",
    r"path/to/recording\.gz( --exchange kraken)?": "{recording}",
    r"path/to/session/": "{session}",
    r"(?<=127\.0\.0\.1:)8765\b|(?<=--port )8765\b": "{simulated}",
    r"^(coinstream simulate)\b": r"\1 --port {simulated}",
    r"\b8080\b": "{webhook}",
    r"(?<=127\.0\.0\.1:)3000\b": "{web}",
    r"^(coinstream lake docs)\b": r"\1 --port {docs}",
    r"^(coinstream explore)\b": r"\1 --no-browser --port 0",
    r"\b9108\b": "{metrics}",
}
"""What stands for something of the reader's own, and ports that may be taken where the test runs."""


def why_elsewhere(command: str) -> str | None:
    """Return why this command is not run; None if it is."""
    return next((reason for pattern, reason in ELSEWHERE.items() if re.match(pattern, command)), None)


def why_not_followed(command: str) -> str | None:
    """Return why a walkthrough does not run this command; None if it does."""
    return None if any(re.match(pattern, command) for pattern in FOLLOWED) else why_elsewhere(command)


def is_lasting(command: str) -> bool:
    """Return whether the command runs until Ctrl-C."""
    return any(re.match(pattern, command) for pattern in LASTING)


def allowed_exits(command: str) -> set[int]:
    """Return the exit codes that are no failure."""
    return next((codes for pattern, codes in EXITS.items() if re.match(pattern, command)), {0})


def in_place(command: str, places: dict[str, str]) -> str:
    """Return the command with what the reader would put in."""
    for pattern, text in PLACES.items():
        command = re.sub(pattern, text, command)
    return re.sub(r"\{(\w+)\}", lambda found: places.get(found[1], found[0]), command)


def call(*words: str) -> tuple[int, str]:
    """Run the command line in this process; return its exit code and its output."""
    said = io.StringIO()
    with redirect_stdout(said), redirect_stderr(said), pytest.raises(SystemExit) as done:
        main(list(words))
    code = done.value.code or 0
    return code if isinstance(code, int) else 1, said.getvalue()


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
    """Return what is wrong with the words; with --help after them they are only parsed."""
    code, said = call(*words, "--help")
    return None if code == 0 else said
