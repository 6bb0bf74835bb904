"""Every alert has its section in the runbook and links to it; every command in it exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer.main
import yaml

from coinstream.cli import GROUPS, app_of
from coinstream.monitoring.group_alerts import Section, section_of
from coinstream.monitoring.group_lag import GroupStatus

ROOT = Path(__file__).parents[2]
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text()
RULES = yaml.safe_load((ROOT / "deploy" / "prometheus" / "rules.yml").read_text())
ALERTS = {rule["alert"]: rule for group in RULES["groups"] for rule in group["rules"]}
OTHERS = {"a-lost-state-folder", "good-to-know"}
COMMANDS = sorted(set(re.findall(r"(?:`|^)coinstream ([^`#|]+)", RUNBOOK, re.MULTILINE)))


def anchor(heading: str) -> str:
    """As GitHub and mkdocs make it of a plain heading."""
    return heading.strip().lower().replace(" ", "-")


SECTIONS = {anchor(part.partition("\n")[0]): part.partition("\n")[2] for part in RUNBOOK.split("\n## ")[1:]}


def test_every_alert_has_its_section_and_every_section_its_alert() -> None:
    assert SECTIONS.keys() == {*map(anchor, ALERTS), *Section, *OTHERS}


@pytest.mark.parametrize("name", ALERTS)
def test_a_rule_links_to_its_section(name: str) -> None:
    assert ALERTS[name]["annotations"]["runbook_url"] == f"http://127.0.0.1:3000/docs/runbook#{anchor(name)}"


@pytest.mark.parametrize("section", sorted({*map(anchor, ALERTS), *Section}))
def test_a_section_says_what_to_do(section: str) -> None:
    text = SECTIONS[section]
    assert re.search(r"^1\. |\]\(#|^\| .* \| do \|$", text, re.MULTILINE), text


def test_links_lead_somewhere() -> None:
    assert set(re.findall(r"\]\(#([^)]+)\)", RUNBOOK)) <= SECTIONS.keys()


@pytest.mark.parametrize("status", GroupStatus)
def test_every_status_leads_to_a_section(status: GroupStatus) -> None:
    assert section_of(status) in SECTIONS


def test_the_address_can_be_that_of_published_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COINSTREAM_RUNBOOK_URL", "https://docs.example.com/runbook/")
    assert Section.RUN.address == "https://docs.example.com/runbook/#a-run-failed"


def test_without_a_setting_alerts_link_to_the_page_of_the_web_ui(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COINSTREAM_UI_URL", "https://dagster.example.com/")
    assert Section.RUN.address == "https://dagster.example.com/docs/runbook#a-run-failed"


@pytest.mark.parametrize("words", COMMANDS)
def test_commands_and_their_options_exist(words: str) -> None:
    name, *rest = words.split()
    assert name in GROUPS
    command = typer.main.get_command(app_of(name))
    while rest and rest[0] in getattr(command, "commands", {}):
        command = command.commands[rest.pop(0)]  # type: ignore[attr-defined]
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in rest if word.startswith("--")} <= known
