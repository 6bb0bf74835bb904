"""Convert settings of coinstream to Dagster configuration, so that each default is defined once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_origin

import dagster as dg
from pydantic import Field, create_model
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings


def config_of(settings: type[BaseSettings]) -> type[dg.Config]:
    """Return a Dagster configuration with the fields of a settings class.

    Defaults are the values of the settings in this process, including its environment. The settings class
    checks ranges when it is created.

    Raises:
        SettingsError: the environment contains an invalid value.
    """
    current = settings()
    fields: dict[str, Any] = {
        name: _field(info, getattr(current, name)) for name, info in settings.model_fields.items()
    }
    return create_model(f"{settings.__name__}Config", __base__=dg.Config, __doc__=settings.__doc__, **fields)


def settings_values(config: dg.Config) -> Mapping[str, Any]:
    """Return the configured values as arguments of the settings class."""
    return {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in config.model_dump().items()
    }


def _field(info: FieldInfo, default: Any) -> tuple[Any, Any]:
    kind = info.annotation
    if get_origin(kind) is tuple:
        kind, default = list[str], list(default)
    return kind, Field(default=default, description=info.description)
