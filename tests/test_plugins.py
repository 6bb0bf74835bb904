from __future__ import annotations

import sys
from pathlib import Path

import pytest

from coinstream.errors import PluginError
from coinstream.settings import HomeSettings, load_plugins


def test_a_named_module_is_imported_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "counted_plugin.py").write_text("import sys\nsys.modules[__name__].loads = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    settings = HomeSettings(plugins=("counted_plugin",))
    assert "counted_plugin" in load_plugins(settings)
    first = sys.modules["counted_plugin"]
    load_plugins(settings)
    assert sys.modules["counted_plugin"] is first


def test_a_plugin_that_fails_is_named_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_plugin.py").write_text("raise ZeroDivisionError('no such exchange')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(PluginError, match=r"broken_plugin .*ZeroDivisionError: no such exchange"):
        load_plugins(HomeSettings(plugins=("broken_plugin",)))


def test_a_plugin_that_is_not_there_is_named() -> None:
    with pytest.raises(PluginError, match="not_there_plugin"):
        load_plugins(HomeSettings(plugins=("not_there_plugin",)))
