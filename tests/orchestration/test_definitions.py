"""The code location loads, and says what it should."""

from __future__ import annotations

import dagster as dg

from definitions import defs


def test_every_definition_is_valid() -> None:
    dg.Definitions.validate_loadable(defs)
