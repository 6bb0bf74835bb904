"""Serve the explorer for topics, quotes, candles, lag and dead letters: `coinstream explore`."""

from __future__ import annotations

import os
import sys
import webbrowser
from typing import Annotated

import typer

from coinstream.cli.output import console

app = typer.Typer()


@app.command(epilog="Examples:\n\ncoinstream explore\n\ncoinstream explore --port 2800 --no-browser")
def explore(
    port: Annotated[int, typer.Option(help="Port, or the next free one.", min=0)] = 2718,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Do not open a browser.")] = False,
) -> None:
    """Serve the explorer in the browser until Ctrl-C, on loopback and protected by a token in its URL."""
    from coinstream.settings import HomeSettings
    from coinstream.stack.paths import code_root, reserve_port
    from coinstream.stack.process import explorer_command, explorer_url

    home = HomeSettings().home
    chosen = reserve_port(port)
    command, environment = explorer_command(code_root(), home, host, chosen, os.environ)
    url = explorer_url(home, host, chosen)
    console.print(f"explorer at {url}", soft_wrap=True, markup=False)
    sys.stdout.flush()
    if not no_browser:
        webbrowser.open(url)
    # The server replaces this process, so that it receives signals and sets the exit code.
    os.execve(command[0], command, environment)  # nosec B606
