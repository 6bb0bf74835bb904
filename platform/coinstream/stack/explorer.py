"""Start the explorer: marimo serving `notebooks/market.py`, behind a token."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from coinstream.errors import PlatformError

NOTEBOOK: Final = "notebooks/market.py"
TOKEN_FILE: Final = "explorer-token"  # nosec B105: the name of a file
PORT: Final = 2718
"""Port of the explorer, unless it is taken."""


def explorer_token(home: Path) -> str:
    """Return the token that the explorer asks for; make one that only this user can read at first.

    Raises:
        PlatformError: the home cannot be written.
    """
    path = home / TOKEN_FILE
    try:
        home.mkdir(parents=True, exist_ok=True)
        if not path.is_file():
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(secrets.token_urlsafe(16))
        return path.read_text().strip()
    except OSError as error:
        raise PlatformError(f"cannot keep the explorer's token in {path}: {error.strerror}") from error


def explorer_url(home: Path, host: str, port: int) -> str:
    """Return the address of the explorer, with its token."""
    return f"http://{host}:{port}?access_token={explorer_token(home)}"


def explorer_command(
    root: Path, home: Path, host: str, port: int, environment: Mapping[str, str]
) -> tuple[list[str], dict[str, str]]:
    """Return the command that serves the explorer, and its environment.

    Args:
        root: folder of the code location, which holds the notebook.
        home: holds the token, which the command is given as a file and never as an argument.
        host: address to listen on.
        port: port to listen on.
        environment: of the process.

    Raises:
        PlatformError: the notebook is missing, or the token cannot be kept.
    """
    notebook = root / NOTEBOOK
    if not notebook.is_file():
        raise PlatformError(f"{notebook} is missing: run the explorer in the folder of a complete clone")
    explorer_token(home)
    paths = [str(root / "platform"), environment.get("PYTHONPATH", "")]
    own = {
        "COINSTREAM_HOME": str(home),
        "MARIMO_SKIP_UPDATE_CHECK": "1",
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
    }
    command = [
        *(sys.executable, "-m", "marimo", "--log-level", "warn", "run", str(notebook), "--headless"),
        *("--host", host, "--port", str(port)),
        *("--token", "--token-password-file", str(home / TOKEN_FILE)),
    ]
    return command, {**environment, **own}
