"""Explain why a broker's certificate is not trusted, which librdkafka does not report."""

from __future__ import annotations

import logging
import socket
import ssl
from typing import Final

from coinstream.settings import BrokerSettings

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
