"""Follow a page as its reader does: write its files, type its commands and compare what they print.

A `text` block without a title shows the output of the shell block before it. A `text` block whose title is a
command that still runs shows a part of that command's output so far.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from coinstream.feeds.registry import sample_path
from coinstream.local_broker.properties import free_ports
from scripts.reference import known_variables
from tests.docs.handling import FOREIGN, allowed_exits, in_place, is_lasting, look_at, why_not_followed
from tests.docs.outputs import mismatch
from tests.docs.pages import ROOT, SHELLS, blocks, commands
from tests.support import wait_until

_START_S: Final = 400.0
_READY: Final = {"make": "Ready: "}
"""Text of a lasting command's output that precedes the next step; any output for the others."""
_SHELL: Final = """\
. "$DOCS_STATE/variables"
cd "$(cat "$DOCS_STATE/folder")"
trap 'code=$?; export -p > "$DOCS_STATE/variables"; pwd > "$DOCS_STATE/folder"; exit $code' EXIT
"""
_MAKE: Final = """\
#!/bin/sh
# The environment of the tests has what these targets install.
case "$1" in
  up) exec coinstream up --port "$DOCS_WEB_PORT" $ARGS ;;
  -C) test -f "$2/Makefile" ;;
  *) exit 2 ;;
esac
"""
_GIT: Final = f"""\
#!/bin/sh
# A clone of the working tree, whose files are links.
test "$1" = clone && mkdir "$3" && ln -s "{ROOT}"/[!.]* "$3" && ln -s "{sys.prefix}" "$3/.venv"
"""
_COINSTREAM: Final = f"""\
#!/bin/sh
export PYTHONPATH="${{PYTHONPATH:+$PYTHONPATH:}}{ROOT / "platform"}:{ROOT}"
exec "{sys.executable}" -m coinstream "$@"
"""


@dataclass
class Step:
    """One block of a page: a file, commands with their output, or the output of a lasting command."""

    file: str = ""
    commands: list[str] = field(default_factory=list)
    watched: str = ""
    text: str = ""


def steps(page: str) -> list[Step]:
    """Return the steps of a page in their order."""
    found: list[Step] = []
    for language, title, lines in blocks(page.splitlines(), []):
        text = "\n".join(lines)
        if title is not None and " " in title:
            found.append(Step(watched=title, text=text))
        elif title is not None:
            found.append(Step(file=title, text=text + "\n"))
        elif language in SHELLS:
            found.append(Step(commands=list(commands(lines, every=True))))
        elif language == "text":
            is_output = found and found[-1].commands and not found[-1].text
            assert is_output, f"an output without commands: {text}"
            found[-1].text = text
    return found


@dataclass
class _Running:
    process: subprocess.Popen[bytes]
    output: Path

    def text(self) -> str:
        return self.output.read_text()


class Walkthrough:
    """A reader's terminals: one for commands, and one for each command that runs until Ctrl-C.

    The exports of a terminal are not seen in the others; all are in the same folder.
    """

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._folder = folder
        self._running: dict[str, _Running] = {}
        names = ("simulated", "webhook", "metrics", "docs", "web")
        self._places = dict(zip(names, map(str, free_ports(len(names))), strict=True))
        self._places["recording"] = str(sample_path("binance-spot.gz"))
        programs, state, start = folder / "bin", folder / "state", folder / "reader"
        for made in (programs, state, start):
            made.mkdir()
        for name, text in (("make", _MAKE), ("git", _GIT), ("coinstream", _COINSTREAM)):
            (programs / name).write_text(text)
            (programs / name).chmod(0o755)
        (state / "variables").touch()
        (state / "folder").write_text(str(start))
        path = os.pathsep.join([str(programs), str(Path(sys.executable).parent), os.environ["PATH"]])
        self._environment = environment | {
            "PATH": path,
            "COLUMNS": "100",
            "PYTHONUNBUFFERED": "1",
            "DOCS_STATE": str(state),
            "DOCS_WEB_PORT": self._places["web"],
        }

    @property
    def here(self) -> Path:
        """Return the folder of the reader's shell."""
        return Path((self._folder / "state" / "folder").read_text().strip())

    def follow(self, step: Step) -> str | None:
        """Do what a block says, and return what went wrong."""
        if step.file:
            target = self.here / step.file
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(step.text)
            return None
        if step.watched:
            return self._watch(step.watched, step.text)
        printed = ""
        for command in step.commands:
            problem, text = self._type(command)
            if problem:
                return f"{command}\n{problem}"
            printed += text
        if not step.text:
            return None
        if is_lasting(step.commands[-1]):
            return self._watch(step.commands[-1], step.text)
        differs = mismatch(in_place(step.text, self._places), printed)
        return differs and "\n".join([*step.commands, differs])

    def _type(self, command: str) -> tuple[str | None, str]:
        if why_not_followed(command) is not None:
            return look_at(command), ""
        exported = re.match(r"export (\w+)=", command)
        if exported and exported[1] not in known_variables() | {"PYTHONPATH"}:
            return f"{exported[1]} is no setting", ""
        if re.match(FOREIGN, command):
            return None, ""
        if is_lasting(command):
            return self._start(command), ""
        done = subprocess.run(
            ["bash", "-c", _SHELL + in_place(command, self._places)],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=300,
            check=False,
        )
        text = done.stdout.decode()
        wrong = done.returncode not in allowed_exits(command)
        return (f"exit code {done.returncode}: {text[-3000:]}" if wrong else None), text

    def _start(self, command: str) -> str | None:
        name = _program(command)
        problem = self._stop(name)
        if problem:
            return problem
        output = self._folder / f"{name}-{len(list(self._folder.glob('*.txt')))}.txt"
        with output.open("wb") as stream:
            process = subprocess.Popen(
                ["bash", "-c", "exec env " + in_place(command, self._places)],
                cwd=self.here,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        running = self._running[name] = _Running(process, output)
        ready = _READY.get(name, "\n")
        wait_until(
            lambda: ready in running.text() or process.poll() is not None, _START_S, f"{ready!r} of {command}"
        )
        if process.poll() is None:
            return None
        return f"ended with {process.returncode}: {running.text()[-3000:]}"

    def _watch(self, command: str, shown: str) -> str | None:
        running = self._running[_program(command)]
        expected = in_place(shown, self._places)
        with suppress(AssertionError):
            wait_until(lambda: mismatch(expected, running.text(), part=True) is None, _START_S)
        differs = mismatch(expected, running.text(), part=True)
        return differs and f"{command}\n{differs}"

    def stop(self) -> list[str]:
        """Interrupt the commands that still run, the newest first, and return what went wrong."""
        return [problem for name in reversed(list(self._running)) if (problem := self._stop(name))]

    def _stop(self, name: str) -> str | None:
        running = self._running.pop(name, None)
        if running is None:
            return None
        running.process.send_signal(signal.SIGINT)
        try:
            code = running.process.wait(120)
        finally:
            with suppress(ProcessLookupError):
                running.process.kill()
        if code in (0, 130, -signal.SIGINT):
            return None
        return f"{name} ended with {code} at Ctrl-C: {running.text()[-3000:]}"


def _program(command: str) -> str:
    return next(Path(word).name for word in shlex.split(command) if not re.match(r"[A-Z_]+=", word))
