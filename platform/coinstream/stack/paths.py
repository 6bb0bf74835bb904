"""Find the code location, Dagster's home and free ports."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import gettempdir
from typing import Final

import yaml
from filelock import FileLock, Timeout

from coinstream.errors import PlatformError
from coinstream.files import private_folder
from coinstream.lake.first_hour import remember_first_hour
from coinstream.local_broker.properties import free_ports, is_free
from coinstream.settings import HomeSettings

HOST: Final = "127.0.0.1"
_ATTEMPTS: Final = 200
_reserved: Final[list[FileLock]] = []


def code_root() -> Path:
    """Return the folder of `definitions.py`: the clone of this installation, or the current folder.

    Raises:
        PlatformError: neither contains a code location.
    """
    for folder in (Path(__file__).resolve().parents[3], Path.cwd()):
        if (folder / "definitions.py").is_file() and (folder / "dagster.yaml").is_file():
            return folder
    raise PlatformError(
        f"no definitions.py and dagster.yaml in {Path.cwd()}: run `coinstream up` in the folder of the clone"
    )


@dataclass
class InstancePaths:
    """Folders of one platform on this machine, and the URLs of its web UI, Data Docs and explorer."""

    root: Path
    home: Path
    ui_url: str = ""
    docs_url: str = ""
    explorer_url: str = ""

    @property
    def dagster_home(self) -> Path:
        """Return the folder of Dagster's storage: runs, events, schedules."""
        return self.home / "dagster"

    @property
    def logs(self) -> Path:
        """Return the folder of the processes' logs."""
        return self.home / "logs"

    @property
    def workspace(self) -> Path:
        """Return the workspace file, which contains the address of the code server."""
        return self.dagster_home / "workspace.yaml"

    def prepare(self, code_port: int) -> None:
        """Create the folders, and write Dagster's settings and workspace.

        Raises:
            PlatformError: the home cannot be written.
        """
        server = {"host": HOST, "port": code_port, "location_name": "coinstream"}
        with self._writing():
            remember_first_hour(self.home)
            private_folder(self.logs)
            private_folder(self.dagster_home)
            settings = (self.root / "dagster.yaml").read_text()
            (self.dagster_home / "dagster.yaml").write_text(settings)
            self.workspace.write_text(yaml.safe_dump({"load_from": [{"grpc_server": server}]}))

    def environment(self) -> Mapping[str, str]:
        """Return the environment variables of the processes in addition to this process's."""
        paths = [str(self.root / "platform"), str(self.root), os.environ.get("PYTHONPATH", "")]
        pages = {"COINSTREAM_LAKE_DOCS_URL": self.docs_url, "COINSTREAM_EXPLORER_URL": self.explorer_url}
        # Alerts and the explorer link to this web UI unless COINSTREAM_UI_URL is set.
        web_ui = {"COINSTREAM_UI_URL": self.ui_url} if self.ui_url else {}
        return (
            web_ui
            | os.environ
            | {name: url for name, url in pages.items() if url}
            | {
                "COINSTREAM_HOME": str(self.home),
                "DAGSTER_HOME": str(self.dagster_home),
                "DAGSTER_DISABLE_TELEMETRY": "1",
                "PYTHONPATH": os.pathsep.join(path for path in paths if path),
                "PYTHONUNBUFFERED": "1",
                # Hide Dagster's warnings about its beta interfaces.
                "PYTHONWARNINGS": os.environ.get("PYTHONWARNINGS", "ignore"),
            }
        )

    @contextmanager
    def claimed(self) -> Iterator[Path]:
        """Lock this home for the block; yield the file for the URL of the web UI.

        Raises:
            PlatformError: another `coinstream up` uses the home, or it cannot be written.
        """
        with self._writing():
            private_folder(self.home)
        path = self.home / "up.lock"
        try:
            lock = FileLock(path).acquire(blocking=False)
        except Timeout:
            where = path.read_text().strip() or "still starting"
            raise PlatformError(
                f"`coinstream up` runs already in {self.home} ({where}): use it, stop it, or set "
                "COINSTREAM_HOME to another folder"
            ) from None
        with lock:
            path.write_text("")
            yield path
            path.write_text("")

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise PlatformError(
                f"cannot write {self.home}: {error.strerror}; make room, or set COINSTREAM_HOME to "
                "another folder"
            ) from error


def instance_paths() -> InstancePaths:
    """Return the paths of this user's platform.

    Raises:
        PlatformError: there is no code location.
    """
    return InstancePaths(code_root(), HomeSettings().home)


def reserve_port(wanted: int) -> int:
    """Return the port, or the next free one, and reserve it on this machine.

    Servers often start seconds after their port was chosen. Until this process exits, no call in any process
    returns the same port.

    Args:
        wanted: first port to try; 0 takes any.

    Raises:
        PlatformError: none of the next two hundred ports is free.
    """
    tried = range(wanted, wanted + _ATTEMPTS) if wanted else (free_ports(1)[0] for _ in range(_ATTEMPTS))
    for port in tried:
        lock = FileLock(Path(gettempdir()) / f"coinstream-port-{port}.lock")
        try:
            lock.acquire(blocking=False)
        except (Timeout, OSError):
            # Another process chose it, or its lock belongs to another user.
            continue
        if is_free(port):
            _reserved.append(lock)
            return port
        lock.release()
    where = f"from {wanted} to {wanted + _ATTEMPTS - 1}" if wanted else f"in {_ATTEMPTS} attempts"
    raise PlatformError(f"no free port on {HOST} {where}: choose one with --port")
