"""Follow the tutorial and the how-tos block by block, and compare the outputs that they show."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, is_followed, pages
from tests.docs.walkthrough import Walkthrough, steps

HOW_TOS = [page.name for page in pages() if is_followed(page.name) and "/how-to/" in page.name]
TUTORIALS = [page.name for page in pages() if is_followed(page.name) and "/how-to/" not in page.name]
pytestmark = pytest.mark.timeout(1200)


def follow(page: str, walk: Walkthrough) -> None:
    problems = []
    try:
        for step in steps((ROOT / page).read_text()):
            problem = walk.follow(step)
            if problem:
                problems.append(problem)
    finally:
        problems += walk.stop()
    assert not problems, "\n\n".join(problems)


@pytest.mark.system
@pytest.mark.parametrize("page", TUTORIALS)
def test_a_tutorial_does_what_it_shows(page: str, tmp_path: Path) -> None:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("REDPANDA_")}
    own = {"COINSTREAM_HOME": str(tmp_path / "home"), "COINSTREAM_BROKER_PORT": "0"}
    follow(page, Walkthrough(tmp_path, inherited | own))


@pytest.mark.system
@pytest.mark.xdist_group("docs")
@pytest.mark.parametrize("page", HOW_TOS)
def test_a_how_to_does_what_it_shows(page: str, platform: dict[str, str], tmp_path: Path) -> None:
    walk = Walkthrough(tmp_path, os.environ | platform)
    for name in ("examples", "deploy", "docs", "notebooks"):
        (walk.here / name).symlink_to(ROOT / name)
    follow(page, walk)


def test_steps_are_read_in_their_order() -> None:
    page = """
```text title="a.txt"
one
```
```bash
export A=1
coinstream lag \\
  strategy  # with a remark
```
It prints:

```text
lag <number>
```
```text title="python server.py 80"
started
```
"""
    file, typed, watched = steps(page)
    assert (file.file, file.text) == ("a.txt", "one\n")
    assert [" ".join(command.split()) for command in typed.commands] == [
        "export A=1",
        "coinstream lag strategy",
    ]
    assert typed.text == "lag <number>"
    assert (watched.watched, watched.text) == ("python server.py 80", "started")


def test_an_output_without_commands_is_refused() -> None:
    with pytest.raises(AssertionError, match="without commands"):
        steps("```text\nlag 3\n```")


def walkthrough(tmp_path: Path) -> Walkthrough:
    return Walkthrough(tmp_path, dict(os.environ))


def test_exports_and_folders_last_from_block_to_block(tmp_path: Path) -> None:
    walk = walkthrough(tmp_path)
    page = """
```bash
export COINSTREAM_HOME=here
mkdir inner && cd inner
```
```text title="file.txt"
text
```
```bash
cat file.txt
echo $COINSTREAM_HOME
```
```text
text
here
```
"""
    assert [walk.follow(step) for step in steps(page)] == [None, None, None]


@pytest.mark.parametrize(
    ("block", "found"),
    [
        ("```bash\necho OK\n```\n```text\nSTALL\n```", "-STALL"),
        ("```bash\nfalse\n```", "exit code 1"),
        ("```bash\nexport COINSTREAM_NOTHING=1\n```", "is no setting"),
        ("```bash\ncoinstream upp\n```", "No such command"),
        ("```bash\nmake nothing\n```", "no nothing"),
    ],
)
def test_what_a_page_gets_wrong_is_found(block: str, found: str, tmp_path: Path) -> None:
    (step,) = steps(block)
    assert found in str(walkthrough(tmp_path).follow(step))


def test_a_lasting_command_is_watched_and_stopped(tmp_path: Path) -> None:
    walk = walkthrough(tmp_path)
    (walk.here / "examples").symlink_to(ROOT / "examples")
    (started,) = steps(
        "```bash\npython examples/webhook.py 8080\n```\n```text\nwaiting for alerts at ...\n```"
    )
    assert walk.follow(started) is None
    assert walk.stop() == []
