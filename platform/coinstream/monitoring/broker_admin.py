"""Request log directory sizes and Redpanda's Admin API, which librdkafka does not support.

Only DescribeLogDirs uses kafka-python. Releases of the Admin API differ in their fields; missing or
unexpected fields become None.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import httpx

from coinstream.errors import BrokerError
from coinstream.settings import BrokerSettings


def topic_sizes(brokers: BrokerSettings) -> dict[str, int]:
    """Return the bytes on disk of each topic over all partitions and replicas (DescribeLogDirs).

    Raises:
        BrokerError: a broker does not answer, or the authentication is OAUTHBEARER, which is not supported.
    """
    from kafka.admin import KafkaAdminClient
    from kafka.errors import KafkaError

    try:
        admin = KafkaAdminClient(**_config(brokers))
        try:
            answers = admin.describe_log_dirs()
        finally:
            admin.close()
    except (KafkaError, OSError) as error:
        raise BrokerError(
            f"reading the sizes of topics at {brokers.brokers}: {str(error) or type(error).__name__}"
        ) from None
    return dict(_summed(answers))


def _summed(answers: Iterable[Mapping[str, Any]]) -> Counter[str]:
    sizes: Counter[str] = Counter()
    for answer in answers:
        for folder in answer["log_dirs"]:
            if folder["error_code"]:
                raise BrokerError(
                    f"broker {answer['broker']} refuses to report log sizes "
                    f"(error {folder['error_code']}). Grant this user DESCRIBE on the cluster."
                )
            for topic in folder["topics"]:
                sizes[topic["name"]] += sum(part["partition_size"] for part in topic["partitions"])
    return sizes


def _config(brokers: BrokerSettings) -> dict[str, Any]:
    if brokers.sasl_mechanism == "OAUTHBEARER":
        raise BrokerError("cannot read topic sizes with OAUTHBEARER; use a SCRAM or TLS user")
    timeout = brokers.request_timeout_ms
    wanted = {
        "bootstrap_servers": brokers.brokers.split(","),
        "client_id": "coinstream-sizes",
        "request_timeout_ms": timeout,
        "bootstrap_timeout_ms": timeout,
        "security_protocol": brokers.security_protocol,
        "sasl_mechanism": brokers.sasl_mechanism,
        "sasl_plain_username": brokers.sasl_username,
        "sasl_plain_password": _reveal(brokers.sasl_password),
        "ssl_cafile": _text(brokers.ssl_ca_location),
        "ssl_certfile": _text(brokers.ssl_certificate_location),
        "ssl_keyfile": _text(brokers.ssl_key_location),
        "ssl_password": _reveal(brokers.ssl_key_password),
    }
    return {key: value for key, value in wanted.items() if value is not None}


def _reveal(secret: Any) -> str | None:
    return None if secret is None else str(secret.get_secret_value())


def _text(path: Any) -> str | None:
    return None if path is None else str(path)


_PATH: Final = "/v1/cluster/health_overview"


@dataclass(frozen=True)
class Overview:
    """Reply of `health_overview`. None means that the release does not report the field."""

    is_healthy: bool | None = None
    reasons: tuple[str, ...] = ()
    nodes: tuple[int, ...] | None = None
    nodes_down: tuple[int, ...] = ()
    leaderless: int | None = None
    under_replicated: int | None = None
    high_disk_usage: tuple[int, ...] = ()


def read_overview(brokers: BrokerSettings, timeout_s: float) -> Overview:
    """Request the health overview from the configured Admin API.

    Raises:
        BrokerError: it does not answer with JSON.
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
    """Parse the reply of any release."""
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
    # The list of partitions is truncated; the count, if present, is complete.
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
    # The same credentials as for Kafka, never in clear text.
    if not url.startswith("https:") or brokers.sasl_username is None or brokers.sasl_password is None:
        return None
    return brokers.sasl_username, brokers.sasl_password.get_secret_value()


def _verify(brokers: BrokerSettings) -> Any:
    import ssl

    if brokers.ssl_ca_location is None:
        return True
    return ssl.create_default_context(cafile=str(brokers.ssl_ca_location))
