"""Provide the base of all settings: environment prefix, errors and renamed fields."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict
from pydantic_settings import SettingsError as UnreadableError

from coinstream.errors import SettingsError

log = logging.getLogger("coinstream.settings")


class PlatformSettings(BaseSettings):
    """Base of all settings classes. Subclasses set `env_prefix` in their `model_config`."""

    # The docstring of a field is its description, also in Dagster's launchpad.
    model_config = SettingsConfigDict(use_attribute_docstrings=True)

    renamed: ClassVar[Mapping[str, str]] = {}
    """Deprecated names of fields, accepted for one release, and their new names."""

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**self._with_new_names(values))
        except ValidationError as error:
            raise SettingsError(_explain(self.model_config.get("env_prefix", ""), error)) from None
        except UnreadableError as error:
            # The message names the field but contains nothing of its value.
            prefix = self.model_config.get("env_prefix", "")
            raise SettingsError(f"bad setting of {prefix}…: {error}; it must be JSON") from None

    @classmethod
    def _with_new_names(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """Move values of deprecated names, from arguments or the environment, to the new names."""
        found = dict(values)
        prefix = str(cls.model_config.get("env_prefix", "")).lower()
        environment = (
            {name.lower(): (name, value) for name, value in os.environ.items()} if cls.renamed else {}
        )
        for old, new in cls.renamed.items():
            name, value = environment.get(prefix + old, ("", None))
            if old in found:
                name, value = old, found.pop(old)
            if name and new not in found and (name == old or prefix + new not in environment):
                log.warning(
                    "the setting %s is now named %s", name, new if name == old else (prefix + new).upper()
                )
                found[new] = value
        return found


def _explain(prefix: str, error: ValidationError) -> str:
    # The invalid value is omitted because it may be a secret.
    faults = (
        f"{prefix}{'.'.join(str(part) for part in item['loc']).upper()}: {item['msg']}"
        for item in error.errors(include_input=False)
    )
    return "bad setting " + "; ".join(faults)


def split_commas(value: object) -> object:
    """Split text at commas; return other values unchanged."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value
