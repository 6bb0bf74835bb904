"""Redpanda's Admin API (port 9644): what it says of the cluster's health.

Releases differ in the fields they send; whatever is missing or has another form is left unknown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import httpx

from coinstream.errors import BrokerError
from coinstream.settings import BrokerSettings

_PATH: Final = "/v1/cluster/health_overview"


@dataclass(frozen=True)
class Overview:
    """`health_overview`. None: the release does not tell."""

    is_healthy: bool | None = None
    reasons: tuple[str, ...] = ()
    nodes: tuple[int, ...] | None = None
    nodes_down: tuple[int, ...] = ()
    leaderless: int | None = None
    under_replicated: int | None = None
    high_disk_usage: tuple[int, ...] = ()


def read_overview(brokers: BrokerSettings, timeout_s: float) -> Overview:
    """Ask the Admin API of the settings.

    Raises:
        BrokerError: it does not answer, or not with JSON.
    """
    url = (brokers.admin_url or "").rstrip("/") + _PATH
    try:
        answer = httpx.get(url, timeout=timeout_s, auth=_auth(brokers, url), verify=_verify(brokers))
        answer.raise_for_status()
        told = answer.json()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, OSError) as error:
        raise BrokerError(
            f"the Admin API at {url}: {str(error).splitlines()[0] if str(error) else type(error).__name__}. "
            "Is REDPANDA_ADMIN_URL right?"
        ) from None
    if not isinstance(told, Mapping):
        raise BrokerError(f"the Admin API at {url} answers no JSON object. Is REDPANDA_ADMIN_URL right?")
    return parse_overview(told)


def parse_overview(told: Mapping[str, Any]) -> Overview:
    """Parse the answer of any release."""
    healthy = told.get("is_healthy")
    return Overview(
        is_healthy=healthy if isinstance(healthy, bool) else None,
        reasons=tuple(str(reason) for reason in _list(told.get("unhealthy_reasons"))),
        nodes=_numbers(told["all_nodes"]) if "all_nodes" in told else None,
        nodes_down=_numbers(told.get("nodes_down")),
        leaderless=_count(told, "leaderless"),
        under_replicated=_count(told, "under_replicated"),
        high_disk_usage=_numbers(told.get("high_disk_usage_nodes")),
    )


def _count(told: Mapping[str, Any], what: str) -> int | None:
    # The list is cut off after some hundred partitions; the count, where there is one, is not.
    count = told.get(f"{what}_count")
    if isinstance(count, int) and not isinstance(count, bool):
        return count
    listed = told.get(f"{what}_partitions")
    return len(listed) if isinstance(listed, list) else None


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _numbers(value: Any) -> tuple[int, ...]:
    return tuple(item for item in _list(value) if isinstance(item, int) and not isinstance(item, bool))


def _auth(brokers: BrokerSettings, url: str) -> tuple[str, str] | None:
    # The same users as on the Kafka side; never in clear text.
    if not url.startswith("https:") or brokers.sasl_username is None or brokers.sasl_password is None:
        return None
    return brokers.sasl_username, brokers.sasl_password.get_secret_value()


def _verify(brokers: BrokerSettings) -> Any:
    import ssl

    if brokers.ssl_ca_location is None:
        return True
    return ssl.create_default_context(cafile=str(brokers.ssl_ca_location))
