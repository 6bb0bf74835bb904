"""Secrets stay out of what is printed, logged, stored or shown."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from pydantic import SecretStr

from coinstream.errors import LakeError, SettingsError
from coinstream.lake.store import Lake
from coinstream.settings import AlertSettings, BrokerSettings, HomeSettings, LakeSettings

SECRET = "Secret-never-shown"
SECRET_FIELDS = ("sasl_password", "oauth_client_secret", "ssl_key_password")


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> BrokerSettings:
    for name in SECRET_FIELDS:
        monkeypatch.setenv(f"REDPANDA_{name.upper()}", SECRET)
    return BrokerSettings()


def test_settings_hide_them(settings: BrokerSettings) -> None:
    assert all(getattr(settings, name).get_secret_value() == SECRET for name in SECRET_FIELDS)
    for text in (repr(settings), str(settings), settings.model_dump_json(), str(settings.model_dump())):
        assert SECRET not in text


def test_settings_of_lake_and_alerts_hide_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COINSTREAM_LAKE_CATALOG_URI", f"postgresql://lake:{SECRET}@host/lake")
    monkeypatch.setenv("COINSTREAM_LAKE_PROPERTIES", json.dumps({"s3.secret-access-key": SECRET}))
    monkeypatch.setenv("COINSTREAM_ALERTS", f"json://user:{SECRET}@host/hook")
    for settings in (LakeSettings(), AlertSettings()):
        for text in (repr(settings), str(settings), settings.model_dump_json(), str(settings.model_dump())):
            assert SECRET not in text


@pytest.mark.parametrize("scheme", ["postgresql+psycopg2", "nosuch"])
def test_a_catalogue_out_of_reach_is_told_without_them(tmp_path: Path, scheme: str) -> None:
    uri = f"{scheme}://lake:{SECRET}@127.0.0.1:1/lake"
    lake = Lake(LakeSettings(catalog_uri=SecretStr(uri)), HomeSettings(home=tmp_path))
    with pytest.raises(LakeError, match="cannot open the lake's catalog") as raised:
        lake.names()
    assert SECRET not in str(raised.value)


def test_settings_that_are_no_json_are_named_without_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COINSTREAM_LAKE_PROPERTIES", SECRET)
    with pytest.raises(SettingsError, match=r"COINSTREAM_LAKE_.*properties.*JSON") as raised:
        LakeSettings()
    assert SECRET not in str(raised.value)


def test_errors_of_settings_hide_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDPANDA_SECURITY_PROTOCOL", SECRET)
    with pytest.raises(SettingsError) as raised:
        BrokerSettings()
    assert "REDPANDA_SECURITY_PROTOCOL" in str(raised.value)
    assert SECRET not in str(raised.value)


def test_dagster_never_sees_them(settings: BrokerSettings) -> None:
    """Run configuration is stored and shown in the UI: no resource may take a secret there."""
    from definitions import defs

    repository = defs.get_repository_def()
    shown = []
    for name, resource in repository.get_top_level_resources().items():
        schema = resource.config_schema.config_type
        shown.append(name)
        text = json.dumps(_fields(schema))
        assert not re.search("password|secret", text, re.IGNORECASE), f"resource {name}: {text}"
        assert SECRET not in repr(resource)
        assert SECRET not in str(resource.config_schema.default_value if _has_default(resource) else "")
    assert {"admin", "client"} <= set(shown)


def _has_default(resource: dg.ResourceDefinition) -> bool:
    return bool(resource.config_schema.default_provided)


def _fields(config_type: Any) -> dict[str, Any]:
    fields = getattr(config_type, "fields", {})
    return {name: _fields(field.config_type) for name, field in fields.items()}


def test_servers_listen_on_this_machine_only() -> None:
    from coinstream.local_broker.properties import HOST
    from coinstream.stack import paths

    assert HOST == "127.0.0.1"
    assert paths.HOST == "127.0.0.1"
