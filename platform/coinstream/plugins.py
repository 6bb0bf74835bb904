"""Load plugins: modules that register message types, topics, exchanges or sinks when imported.

An installed package declares its plugin in `pyproject.toml`; `COINSTREAM_PLUGINS` lists modules that are not
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
    """Import every plugin. Plugins that are already imported are not imported again.

    Returns:
        The module names of the plugins.

    Raises:
        PluginError: a plugin cannot be imported.
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
            "Fix it, or remove it from the installed packages or COINSTREAM_PLUGINS."
        ) from error
