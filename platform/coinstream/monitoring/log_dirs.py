"""Bytes that topics take on disk, asked of every broker (DescribeLogDirs).

librdkafka has no such request, so this one goes through kafka-python; nothing else does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from coinstream.errors import BrokerError
from coinstream.settings import BrokerSettings


def topic_sizes(brokers: BrokerSettings) -> dict[str, int]:
    """Bytes of each topic over all its partitions and replicas, as the brokers' log folders hold them.

    Raises:
        BrokerError: a broker does not answer, or the way of signing in (OAUTHBEARER) is not known here.
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
                    f"broker {answer['broker']} refuses to tell the size of its logs "
                    f"(error {folder['error_code']}). Allow this user to describe the cluster."
                )
            for topic in folder["topics"]:
                sizes[topic["name"]] += sum(part["partition_size"] for part in topic["partitions"])
    return sizes


def _config(brokers: BrokerSettings) -> dict[str, Any]:
    if brokers.sasl_mechanism == "OAUTHBEARER":
        raise BrokerError("sizes of topics cannot be read with OAUTHBEARER: give a SCRAM or TLS user")
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
