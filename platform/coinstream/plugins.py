"""Extensions: a plugin is a module that registers message types, topics, exchanges or sinks when imported.

An installed package names it in its `pyproject.toml`; `COINSTREAM_PLUGINS` names modules that are not
installed:

    [project.entry-points."coinstream.plugins"]
    funding = "my_package.funding"
"""

from __future__ import annotations

import importlib
from importlib.metadata import entry_points
from typing import Final

from coinstream.errors import PluginError
from coinstream.settings import HomeSettings

GROUP: Final = "coinstream.plugins"


def load_plugins(settings: HomeSettings | None = None) -> tuple[str, ...]:
    """Import every plugin; their module names. A second call imports nothing anew.

    Raises:
        PluginError: one of them cannot be imported.
    """
    named = (settings or HomeSettings()).plugins
    modules = dict.fromkeys([*(point.module for point in entry_points(group=GROUP)), *named])
    for module in modules:
        _load(module)
    return tuple(modules)


def _load(module: str) -> None:
    try:
        importlib.import_module(module)
    except Exception as error:
        raise PluginError(
            f"plugin {module} cannot be imported: {type(error).__name__}: {error}. "
            "Mend it, or take it out of the installed packages or COINSTREAM_PLUGINS."
        ) from error
