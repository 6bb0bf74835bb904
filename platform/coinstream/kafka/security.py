"""Explain what a broker does not report: missing ACLs and untrusted certificates.

A broker lists only topics and groups that the user may describe, so an empty list does not mean that there
are none. These functions request named topics and the user's rights on the cluster instead.
"""

from __future__ import annotations

import logging
import socket
import ssl
from collections.abc import Iterable
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AclOperation, AdminClient, ConfigResource, ResourceType

from coinstream.errors import AuthenticationError
from coinstream.settings import BrokerSettings

_DENIED = {KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.CLUSTER_AUTHORIZATION_FAILED}


def unauthorized_topics(admin: AdminClient, names: Iterable[str], timeout_s: float) -> list[str]:
    """Return the topics that this user may not describe, whether they exist or not."""
    # The client refuses an empty name, which no topic has.
    wanted = sorted({name for name in names if name})
    if not wanted:
        return []
    answers: dict[str, Any] = admin.describe_topics(TopicCollection(wanted), request_timeout=timeout_s)
    denied = []
    for name, future in answers.items():
        try:
            future.result(timeout_s * 2)
        except KafkaException as error:
            if error.args[0].code() in _DENIED:
                denied.append(name)
    return sorted(denied)


def require_topic_rights(admin: AdminClient, names: Iterable[str], brokers: str, timeout_s: float) -> None:
    """Check that this user may describe topics.

    Raises:
        AuthenticationError: an ACL is missing; the message names the topics and the right.
    """
    denied = unauthorized_topics(admin, names, timeout_s)
    if denied:
        more = f" and {len(denied) - 3} more" if len(denied) > 3 else ""
        raise AuthenticationError(
            f"this user lacks the right DESCRIBE on topic {', '.join(denied[:3])}{more} at {brokers}, so it "
            "cannot tell whether they exist. Ask for an ACL, see docs/security.md."
        )


def may_describe_cluster(admin: AdminClient, timeout_s: float) -> bool:
    """Return whether this user sees every group: it has DESCRIBE on the cluster, or there are no ACLs."""
    try:
        asked = admin.describe_cluster(include_authorized_operations=True, request_timeout=timeout_s)
        cluster = asked.result(timeout_s * 2)
    except KafkaException as error:
        return bool(error.args[0].code() not in _DENIED)
    if cluster.authorized_operations is not None:
        return AclOperation.DESCRIBE in cluster.authorized_operations
    # No rights, or a broker that does not report rights. Only the former refuses this request.
    broker = ConfigResource(ResourceType.BROKER, str(cluster.nodes[0].id))
    try:
        admin.describe_configs([broker], request_timeout=timeout_s)[broker].result(timeout_s * 2)
    except KafkaException as error:
        return bool(error.args[0].code() not in _DENIED)
    return True


log = logging.getLogger(__name__)

TIMEOUT_S: Final = 3.0


def why_not_trusted(brokers: BrokerSettings) -> str | None:
    """Return the certificate error of the first broker that answers, or None if there is none.

    Opens one TLS connection per broker with the client's certificate authorities, and sends no data.
    """
    for address in brokers.brokers.split(","):
        reason = _ask(address.strip(), brokers)
        if reason:
            return reason
    return None


def _ask(address: str, brokers: BrokerSettings) -> str | None:
    host, _, port = address.rpartition(":")
    try:
        context = ssl.create_default_context(cafile=brokers.ssl_ca_location)
        with socket.create_connection((host, int(port)), timeout=TIMEOUT_S) as plain:
            context.wrap_socket(plain, server_hostname=host.strip("[]")).close()
    except ssl.SSLCertVerificationError as error:
        return f"the certificate of {address} is not trusted: {error.verify_message}{_advice(error)}"
    except (OSError, ValueError) as error:
        log.debug("%s was not asked for its certificate: %s", address, error)
        return None
    if brokers.ssl_certificate_location is None:
        return (
            f"{address} asks for a client certificate: "
            "set REDPANDA_SSL_CERTIFICATE_LOCATION and REDPANDA_SSL_KEY_LOCATION"
        )
    return f"{address} does not trust the client certificate {brokers.ssl_certificate_location}"


def _advice(error: ssl.SSLCertVerificationError) -> str:
    return _ADVICE.get(error.verify_code, "")


_ADVICE: Final = {
    10: ". Renew it on the broker",
    18: ". Set REDPANDA_SSL_CA_LOCATION to the authority that signed it",
    19: ". Set REDPANDA_SSL_CA_LOCATION to the authority that signed it",
    20: ". Set REDPANDA_SSL_CA_LOCATION to the authority that signed it",
    62: ". Use a name in REDPANDA_BROKERS that the certificate holds",
    64: ". Use an address in REDPANDA_BROKERS that the certificate holds",
}
"""By OpenSSL's X509_V_ERR code: expired, self-signed, unknown issuer, wrong name, wrong address."""
