"""Run the `coinstream` command in the test process, which saves its start."""

from __future__ import annotations

from collections.abc import Mapping

import click
from click.testing import CliRunner, Result

from coinstream.cli import main


@click.command(context_settings={"ignore_unknown_options": True}, add_help_option=False)
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
def _coinstream(words: tuple[str, ...]) -> None:
    main(list(words))


def run_cli(*words: str, environment: Mapping[str, str] | None = None) -> Result:
    """Return what `coinstream WORDS...` printed and its exit code; unexpected errors are raised."""
    result = CliRunner().invoke(_coinstream, words, env=dict(environment or {}))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result
