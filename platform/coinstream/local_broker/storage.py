"""Prepare the disk of the local broker: data folders, and the archive of Kafka's loaded classes."""

from __future__ import annotations

import base64
import gzip
import hashlib
import logging
import os
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Final

import msgspec
from filelock import FileLock, Timeout

from coinstream.errors import LocalBrokerError
from coinstream.files import write_whole
from coinstream.local_broker.jars import FLAGS, java_environment
from coinstream.local_broker.node import reason_in
from coinstream.local_broker.properties import NodePlan

LEAST_FREE_BYTES = 64 * 1024 * 1024
"""Below this much free room a start is refused: Kafka would die in the middle of a write."""

_FORMAT_TIMEOUT_S = 60.0
_START_EMPTY = "move it away to start empty, or restore it from a copy"

FormatCommand = Callable[[NodePlan, str], list[str]]
"""Gives the command line that formats the folder of a node for a cluster id."""


class Cluster(msgspec.Struct, frozen=True):
    """Contents of `cluster.json` next to the data folders of a cluster."""

    cluster_id: str
    formatted: tuple[int, ...] = ()
    """Nodes whose folders were formatted. Without its `meta.properties` such a folder lost its data."""


@dataclass(frozen=True, slots=True)
class Storage:
    """The folder of a cluster: one folder a node, and `cluster.json`."""

    folder: Path
    plans: Sequence[NodePlan]

    def check(self) -> None:
        """Make the folders, and see that they can be written, have room and are not corrupt.

        Raises:
            LocalBrokerError: one of them is not so.
        """
        self._make_folders()
        self._check_room()
        cluster = self._read_cluster()
        for plan in self.plans:
            self._is_formatted(plan, cluster)

    def format(self, format_command: FormatCommand) -> str:
        """Format the folders that are not formatted yet, all for the same cluster id, and return that id.

        Raises:
            LocalBrokerError: Kafka's storage tool failed.
        """
        cluster = self._read_cluster()
        fresh = [plan for plan in self.plans if not self._is_formatted(plan, cluster)]
        if not fresh:
            return cluster.cluster_id
        # 1. The id goes to disk before any folder carries it, so that a crash in between is harmless.
        self._write_cluster(cluster)
        # 2. Format the nodes without storage.
        _format_all(fresh, cluster.cluster_id, format_command)
        # 3. From here on a missing meta.properties means lost data, not a first start.
        formatted = tuple(plan.node_id for plan in self.plans)
        self._write_cluster(msgspec.structs.replace(cluster, formatted=formatted))
        return cluster.cluster_id

    def _make_folders(self) -> None:
        try:
            for plan in self.plans:
                plan.data.mkdir(parents=True, exist_ok=True)
                probe = plan.data.parent / ".writable"
                probe.write_bytes(b"")
                probe.unlink()
        except OSError as error:
            raise LocalBrokerError(
                f"cannot write the folder of the local broker, {self.folder}: {error.strerror or error}; "
                "give this user the right and room to write, or set COINSTREAM_HOME to another folder"
            ) from error

    def _check_room(self) -> None:
        free = shutil.disk_usage(self.folder).free
        if free < LEAST_FREE_BYTES:
            raise LocalBrokerError(
                f"no room for the local broker's data in {self.folder}: {free / 1e6:.1f} MB are free, "
                f"{LEAST_FREE_BYTES / 1e6:.0f} MB are needed at least; make room, or set COINSTREAM_HOME "
                "to a larger disk"
            )

    @property
    def _cluster_file(self) -> Path:
        return self.folder / "cluster.json"

    def _read_cluster(self) -> Cluster:
        if not self._cluster_file.exists():
            return Cluster(cluster_id=_existing_cluster_id(self.plans) or _new_cluster_id())
        try:
            return msgspec.json.decode(self._cluster_file.read_bytes(), type=Cluster)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise LocalBrokerError(
                f"{self._cluster_file} is corrupt ({error}); remove that file to recreate it "
                "from the data folders"
            ) from error

    def _write_cluster(self, cluster: Cluster) -> None:
        write_whole(self._cluster_file, msgspec.json.encode(cluster))

    def _is_formatted(self, plan: NodePlan, cluster: Cluster) -> bool:
        meta = plan.data / "meta.properties"
        if meta.exists():
            _check_meta(meta, plan.node_id, cluster.cluster_id)
            return True
        if plan.node_id in cluster.formatted or _holds_topics(plan.data):
            raise LocalBrokerError(
                f"the data folder {plan.data} is corrupt: meta.properties is missing; "
                f"{_START_EMPTY} ({self.folder} is the folder of the whole cluster)"
            )
        return False


def _check_meta(meta: Path, node_id: int, cluster_id: str) -> None:
    found = _read_meta(meta)
    for key, wanted in (("version", "1"), ("node.id", str(node_id)), ("cluster.id", cluster_id)):
        if found.get(key) != wanted:
            raise LocalBrokerError(
                f"the data folder {meta.parent} is corrupt: {meta.name} has {key}={found.get(key)!r} "
                f"instead of {wanted!r}; {_START_EMPTY}"
            )


def _read_meta(meta: Path) -> Mapping[str, str]:
    text = meta.read_bytes().decode("utf-8", errors="replace")
    pairs = (line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))
    return {key.strip(): value.strip() for key, value in pairs}


def _existing_cluster_id(plans: Sequence[NodePlan]) -> str | None:
    for plan in plans:
        meta = plan.data / "meta.properties"
        if meta.exists() and (cluster_id := _read_meta(meta).get("cluster.id")):
            return cluster_id
    return None


def _holds_topics(data: Path) -> bool:
    return any(child.is_dir() for child in data.iterdir())


def _new_cluster_id() -> str:
    # Kafka's own form: a random UUID in URL-safe base64 without padding.
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()


def _format_all(plans: Sequence[NodePlan], cluster_id: str, format_command: FormatCommand) -> None:
    running = [
        (
            plan,
            subprocess.Popen(
                format_command(plan, cluster_id),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=java_environment(),
            ),
        )
        for plan in plans
    ]
    for plan, process in running:
        output, _ = process.communicate(timeout=_FORMAT_TIMEOUT_S)
        if process.returncode != 0:
            text = output.decode("utf-8", errors="replace").strip()
            plan.output.write_text(text, encoding="utf-8")
            raise LocalBrokerError(
                f"cannot format {plan.data} (exit code {process.returncode}): {reason_in(text, plan)}; "
                f"its log is {plan.output}"
            )


log = logging.getLogger(__name__)

CLASS_LIST: Final = "classes.lst.gz"
_ARCHIVE_PREFIX: Final = "kafka-"
_ARCHIVE_TIMEOUT_S: Final = 180.0
_ARCHIVE_UNUSED_S: Final = 30 * 86_400.0
"""An archive that no broker used for so long is removed: that of an earlier Java or Kafka."""


def archive_options(java: Path, classpath: Sequence[Path], folder: Path) -> tuple[str, ...]:
    """Return Java's option for the archive, which is made if it is missing; empty where that is impossible.

    Args:
        java: the program.
        classpath: the jars, in the order of Java's command line.
        folder: where the archive is kept.
    """
    archive = folder / f"{_ARCHIVE_PREFIX}{_archive_key(java, classpath)}.jsa"
    if not archive.is_file():
        try:
            # Another process that makes it is not waited for: the archive saves seconds only.
            with FileLock(folder / ".archive.lock", timeout=0):
                if not archive.is_file():
                    _make_archive(java, classpath, archive)
        except Timeout:
            return ()
        except (OSError, subprocess.SubprocessError) as error:
            log.info("no archive of Kafka's classes, so Java starts more slowly: %s", error)
            return ()
    with suppress(OSError):  # another user's cache
        os.utime(archive)
    return (f"-XX:SharedArchiveFile={archive}",)


def _archive_key(java: Path, classpath: Sequence[Path]) -> str:
    """Return a digest of all that decides whether Java accepts an archive."""
    digest = hashlib.sha256(_class_list() + " ".join(FLAGS).encode())
    java = java.resolve()
    release = java.parents[1] / "release"
    for path in (java, release, *classpath):
        status = path.stat()
        digest.update(f"{path}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


def _class_list() -> bytes:
    return resources.files(__package__).joinpath(CLASS_LIST).read_bytes()


def _make_archive(java: Path, classpath: Sequence[Path], archive: Path) -> None:
    """Make the archive and remove unused ones.

    Raises:
        OSError: it cannot be stored.
        subprocess.SubprocessError: Java failed, or took too long.
    """
    log.info("making an archive of Kafka's classes in %s (once)", archive.parent)
    with tempfile.TemporaryDirectory(dir=archive.parent, prefix=".archive-") as folder:
        names, made = Path(folder, "classes.lst"), Path(folder, archive.name)
        names.write_bytes(gzip.decompress(_class_list()))
        command = [
            *(str(java), "-Xshare:dump", "-XX:+UseParallelGC", *FLAGS),
            *(f"-XX:SharedClassListFile={names}", f"-XX:SharedArchiveFile={made}"),
            *("-cp", os.pathsep.join(map(str, classpath))),
        ]
        subprocess.run(command, check=True, capture_output=True, timeout=_ARCHIVE_TIMEOUT_S)
        made.replace(archive)
    for old in archive.parent.glob(f"{_ARCHIVE_PREFIX}*.jsa"):
        if time.time() - old.stat().st_mtime > _ARCHIVE_UNUSED_S:
            old.unlink(missing_ok=True)
