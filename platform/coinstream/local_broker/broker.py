"""Run the local broker: one or three nodes of Apache Kafka, owned by the process that starts them."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, Self

import psutil

from coinstream.errors import LocalBrokerError, PortTakenError
from coinstream.files import private_folder
from coinstream.local_broker import jars, properties
from coinstream.local_broker.jars import exclusive_lock, java_command, show_fetching
from coinstream.local_broker.node import Node, ProcessIdentity
from coinstream.local_broker.properties import (
    CLIENT_LISTENER,
    Listener,
    NodePlan,
    listener_names,
    server_properties,
    write_properties,
)
from coinstream.local_broker.status import (
    RunningBroker,
    RunningNode,
    clear_stale,
    running_broker,
    state_file,
    wait_until_ready,
    write_running,
)
from coinstream.local_broker.storage import Storage, archive_options

DEFAULT_PORT = 19092
_GRACE_S = 10.0
_START_LOCK_S = 120.0
_PORT_ATTEMPTS = 5
_IN_USE = "Address already in use"

log = logging.getLogger(__name__)


class LocalBroker:
    """Apache Kafka as a context manager. Not thread-safe.

    The data stays in `home` between starts, separately for one and for three nodes. The Java processes stop
    when the process that called `start` exits for any reason.

    Args:
        home: folder of data, logs and state.
        nodes: 1, or 3 with replication factor 3 and two in-sync replicas.
        port: port of the first node; further ports follow. 0 takes free ports.
        heap_mb: maximum heap of each node in MiB.
        properties: additional server properties of all nodes, which override the others.
        listeners: additional listeners, for example with SASL or TLS.
        ready_timeout_s: timeout of the start after the jars are available, in seconds.
        progress: shows the download of jars.
        detached: value in the state file for `coinstream broker`.
    """

    def __init__(
        self,
        home: Path,
        nodes: Literal[1, 3] = 1,
        port: int = DEFAULT_PORT,
        *,
        heap_mb: int = 768,
        properties: Mapping[str, str] | None = None,
        listeners: Sequence[Listener] = (),
        ready_timeout_s: float = 120.0,
        progress: jars.Progress = show_fetching,
        detached: bool = False,
    ) -> None:
        if nodes not in (1, 3):
            raise LocalBrokerError(f"the local broker has 1 or 3 nodes, not {nodes}")
        self.home = Path(home).absolute()
        self.nodes: tuple[Node, ...] = ()
        self._count = nodes
        self._port = port
        self._heap_mb = heap_mb
        self._properties = dict(properties or {})
        self._listeners = tuple(listeners)
        self._ready_timeout_s = ready_timeout_s
        self._progress = progress
        self._detached = detached
        self._classpath: Sequence[Path] = ()
        self._archive: Sequence[str] = ()
        self._cluster_id = ""

    @property
    def bootstrap(self) -> str:
        """Return the bootstrap servers of the plain listener."""
        return self.bootstrap_of(CLIENT_LISTENER)

    def bootstrap_of(self, listener: str) -> str:
        """Return the bootstrap servers of a listener by name."""
        if not self.nodes:
            raise LocalBrokerError("the local broker was not started")
        return ",".join(node.plan.address(listener) for node in self.nodes)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start all nodes and wait until the broker is ready. Has no effect if it is already running.

        Raises:
            LocalBrokerError: the start failed; the message contains the reason, the log and advice.
            PortTakenError: another process has one of the ports.
        """
        if any(node.alive for node in self.nodes):
            return
        self._make_home()
        self._classpath = jars.classpath(progress=self._progress)
        self._archive = archive_options(jars.java(), self._classpath, jars.jar_cache())
        holder = f"another process is starting the local broker of {self.home}"
        with exclusive_lock(self.home / ".start.lock", _START_LOCK_S, holder):
            self._refuse_second()
            clear_stale(self.home, _GRACE_S)
            self._launch_on_own_ports()

    def stop(self) -> None:
        """Stop all nodes gracefully within ten seconds, then kill them. Further calls have no effect."""
        for node in self.nodes:
            node.release()
        for node in self.nodes:
            node.wait()
        running = running_broker(self.home)
        if running is not None and running.owner.pid == os.getpid():
            state_file(self.home).unlink(missing_ok=True)

    def check(self) -> None:
        """Raise a `LocalBrokerError` with the reason if a node has exited unexpectedly."""
        for node in self.nodes:
            if node.died:
                reason = node.exit_reason()
                raise PortTakenError(reason) if _IN_USE in reason else LocalBrokerError(reason)

    def wait_ready(self) -> None:
        """Wait until all running nodes are ready, for example after a restart of a node.

        Raises:
            LocalBrokerError: a node exited, or the timeout passed.
        """
        addresses = [node.address for node in self.nodes if node.alive or node.died]
        log = ", ".join(str(node.plan.log) for node in self.nodes)
        wait_until_ready(addresses, self._cluster_id, self._ready_timeout_s, self.check, log)

    def _make_home(self) -> None:
        if "," in str(self.home):
            raise LocalBrokerError(
                f"the local broker cannot store data in {self.home}: Kafka separates its data folders by "
                "commas; set COINSTREAM_HOME to a folder without a comma in its path"
            )
        try:
            private_folder(self.home)
            probe = self.home / ".writable"
            probe.write_bytes(b"")
            probe.unlink()
        except OSError as error:
            raise LocalBrokerError(
                f"cannot write the folder of the local broker, {self.home}: {error.strerror or error}; "
                "give this user the right and room to write, or set COINSTREAM_HOME to another folder"
            ) from error

    def _refuse_second(self) -> None:
        running = running_broker(self.home)
        if running is not None:
            raise LocalBrokerError(
                f"a local broker with {len(running.nodes)} node(s) runs already in {self.home}, at "
                f"{running.bootstrap}, owned by process {running.owner.pid}: use it, or stop it first"
            )

    def _plan_nodes(self) -> tuple[Node, ...]:
        names = listener_names(self._listeners)
        wanted = self._count * len(names)
        if self._port == 0:
            numbers = properties.free_ports(wanted)
        else:
            numbers = list(range(self._port, self._port + wanted))
            properties.check_free(numbers)
        # All first listeners come first, so that clients find consecutive ports.
        plans = tuple(
            NodePlan(
                node_id=index + 1,
                folder=self.home / f"nodes-{self._count}" / f"node-{index + 1}",
                ports=dict(zip(names, numbers[index :: self._count], strict=True)),
            )
            for index in range(self._count)
        )
        return tuple(Node(plan, self._server_command(plan), _GRACE_S) for plan in plans)

    def _server_command(self, plan: NodePlan) -> list[str]:
        return self._java("kafka.Kafka", [str(plan.properties)], plan)

    def _java(
        self, main: str, arguments: Sequence[str], plan: NodePlan, *, short_lived: bool = False
    ) -> list[str]:
        return java_command(
            main,
            arguments,
            classpath=self._classpath,
            log=plan.log,
            heap_mb=self._heap_mb,
            short_lived=short_lived,
            options=self._archive,
        )

    def _launch_on_own_ports(self) -> None:
        """Launch the nodes, with other ports if another process took free ones before Java listened."""
        for left in reversed(range(_PORT_ATTEMPTS)):
            self.nodes = self._plan_nodes()
            try:
                self._launch()
                return
            except PortTakenError as error:
                self.stop()
                if self._port != 0 or not left:
                    raise
                log.warning("starting the local broker with other ports: %s", error)
            except BaseException:
                self.stop()
                raise

    def _launch(self) -> None:
        plans = [node.plan for node in self.nodes]
        storage = Storage(plans[0].folder.parent, plans)
        storage.check()
        for plan in plans:
            properties = server_properties(plan, plans, self._listeners, self._properties)
            write_properties(plan.properties, properties)
        self._cluster_id = storage.format(self._format_command)
        for node in self.nodes:
            node.start()
        self._write_state(ready=False)
        self.wait_ready()
        self._write_state(ready=True)

    def _format_command(self, plan: NodePlan, cluster_id: str) -> list[str]:
        # One argument with `=`, because an id that starts with a dash would be parsed as an option.
        arguments = ["format", f"--cluster-id={cluster_id}", "--config", str(plan.properties)]
        return self._java(
            "kafka.tools.StorageTool", [*arguments, "--ignore-formatted"], plan, short_lived=True
        )

    def _write_state(self, *, ready: bool) -> None:
        nodes = tuple(
            RunningNode(node.node_id, node.address, ProcessIdentity.of(node.process), str(node.plan.log))
            for node in self.nodes
            if node.process is not None
        )
        owner = ProcessIdentity.of(psutil.Process())
        running = RunningBroker(owner, self.bootstrap, nodes, ready=ready, detached=self._detached)
        write_running(self.home, running)
