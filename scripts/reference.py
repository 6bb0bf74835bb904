"""Generate the reference pages of settings, commands and exchanges from code.

`make docs` runs this script. Do not edit the generated pages.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import typer
from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings
from typer.cli import get_docs_for_click

from coinstream import settings
from coinstream.cli import root_app
from coinstream.feeds.exchanges import adapters

OTHERS: Final = {
    "FEEDS": (
        "",
        "`live`: the default feed is a real exchange (`live` of `feeds.yaml`), not the simulated one.",
    ),
    "COINSTREAM_FEEDS": ("", "Path of a `feeds.yaml` that overrides the packaged one."),
    "XDG_CACHE_HOME": (
        "~/.cache",
        "Folder whose subfolder `coinstream/jars` contains the local broker's jars.",
    ),
}
"""Environment variables that are not fields of a settings class."""
_EXAMPLE: Final = re.compile(r"^((?:REDPANDA_\S+ )?coinstream .*?)(?:   \((.*)\))?$", re.MULTILINE)


def settings_page() -> str:
    """Return a page of every environment variable with its default and meaning."""
    lines = [
        "# Settings",
        "",
        "Every setting is a field of a class in `coinstream.settings` and is read from the environment. This "
        "page is generated from these classes. Dagster's launchpad sets the fields of `ProducerSettings` for "
        "one run.",
        "",
    ]
    for cls in classes():
        text = " ".join((inspect.getdoc(cls) or "").split())
        lines += [f"## {cls.__name__}", "", text, "", *_table(_rows(cls)), ""]
    rows = [(name, default, text) for name, (default, text) in OTHERS.items()]
    return "\n".join([*lines, "## Others", "", *_table(rows), ""])


def classes() -> list[type[BaseSettings]]:
    """Return the settings classes in the order of the package."""
    return [
        item
        for name, item in vars(settings).items()
        if inspect.isclass(item) and issubclass(item, BaseSettings) and not name.startswith("_")
        if item not in (BaseSettings, settings.PlatformSettings)
    ]


def known_variables() -> set[str]:
    """Return the names of all environment variables that are read."""
    return {name for cls in classes() for name, _, _ in _rows(cls)} | OTHERS.keys()


def _rows(cls: type[BaseSettings]) -> Iterator[tuple[str, str, str]]:
    prefix = cls.model_config.get("env_prefix", "")
    for name, field in cls.model_fields.items():
        yield f"{prefix}{name}".upper(), _default(field), " ".join((field.description or "").split())


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    if isinstance(value, Path):
        return str(value).replace(str(Path.home()), "~")
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, (tuple, list)):
        return ",".join(map(str, value))
    return "" if value is None or value == {} else f"{value}"


def _table(rows: Iterator[tuple[str, str, str]] | list[tuple[str, str, str]]) -> Iterator[str]:
    yield "| variable | default | meaning |"
    yield "|---|---|---|"
    for name, default, text in rows:
        yield f"| `{name}` | {f'`{default}`' if default else ''} | {text.replace('|', '&#124;')} |"


def commands_page() -> str:
    """Return a page of every command with its arguments, options and examples."""
    group = typer.main.get_command(root_app("*"))
    context = typer.Context(group, info_name="coinstream")
    text = get_docs_for_click(obj=group, ctx=context, name="coinstream", title="Command line")
    # The examples of a help text stand one a paragraph, as a terminal shows them.
    text = text.replace("\nExamples:\n", "\n**Examples**:\n")
    return _EXAMPLE.sub(lambda found: f"- `{found[1]}` {found[2] or ''}".rstrip(), text)


def exchanges_page() -> str:
    """Return the channels of every adapter, and what each was tested on."""
    lines = [
        "# Exchanges",
        "",
        "Exchanges that coinstream reads over its own adapters, live and from recordings. Evidence "
        "`recording` means that the channel was tested on frames of the exchange, `documentation` that it "
        "was written from the exchange's documentation only. This page is made from the adapters; "
        "`coinstream feed exchanges` prints the same table.",
        "",
        "| exchange | channel | message types | evidence |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| `{exchange}`{'' if adapter.live else ' (recordings only)'} | {channel.name} | "
        f"{', '.join(channel.types)} | {channel.evidence} |"
        for exchange, adapter in sorted(adapters().items())
        for channel in adapter.channels
    ]
    return "\n".join([*lines, ""])


def main(folder: Path) -> None:
    """Write the pages."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "settings.md").write_text(settings_page())
    (folder / "commands.md").write_text(commands_page())
    (folder / "exchanges.md").write_text(exchanges_page())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
