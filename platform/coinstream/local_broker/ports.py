"""Ports: pick free ones, and say who holds a taken one."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterable
from pathlib import Path

import psutil

from coinstream.errors import LocalBrokerError
from coinstream.local_broker.properties import HOST

_LOWEST = 10_000
_EPHEMERAL_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_ATTEMPTS = 1000


def is_free(port: int) -> bool:
    """Return True if a server can listen on the port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def free_ports(count: int) -> list[int]:
    """Distinct free ports below those that the kernel gives to outgoing connections.

    From that range a client could be given the very port of a broker that is being restarted, or, as
    both ends are on one machine, connect to itself.
    """
    highest = _lowest_ephemeral() - 1
    found: set[int] = set()
    for _ in range(_ATTEMPTS):
        port = random.randint(_LOWEST, highest)
        if port not in found and is_free(port):
            found.add(port)
        if len(found) == count:
            return sorted(found)
    raise LocalBrokerError(f"found no {count} free ports on {HOST} between {_LOWEST} and {highest}")


def check_free(ports: Iterable[int]) -> None:
    """Raise a `LocalBrokerError` that names the holder if one of the ports is taken."""
    for port in ports:
        if not is_free(port):
            raise LocalBrokerError(
                f"port {port} on {HOST}, which the local broker needs, is taken by {_holder(port)}; "
                "stop that process, or choose another port with COINSTREAM_BROKER_PORT (0 takes free ones)"
            )


def _lowest_ephemeral() -> int:
    if not _EPHEMERAL_RANGE.is_file():
        # macOS: net.inet.ip.portrange.first
        return 49_152
    lowest = int(_EPHEMERAL_RANGE.read_text().split()[0])
    return lowest if lowest > _LOWEST + _ATTEMPTS else 32_768


def _holder(port: int) -> str:
    try:
        connections = psutil.net_connections("tcp")
    except psutil.AccessDenied:
        return "another process"
    for connection in connections:
        if connection.laddr and connection.laddr.port == port and connection.pid:
            try:
                return f"{psutil.Process(connection.pid).name()} (process {connection.pid})"
            except psutil.NoSuchProcess:
                continue
    return "another process"
