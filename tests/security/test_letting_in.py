"""Every way of being let in works from end to end, and every refusal is one clear error."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaError
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from coinstream.client import RedpandaClient
from coinstream.errors import (
    AuthenticationError,
    BrokerError,
    CoinstreamError,
    NotAllowedError,
    SettingsError,
)
from coinstream.kafka import admin_client, base_config, broker_error, refusal
from coinstream.messages import Price
from coinstream.serialization import MessageDeserializer
from coinstream.settings import BrokerSettings
from coinstream.topics.apply import Provisioner
from coinstream.topics.catalogue import HEALTH
from tests.conftest import TopicFactory
from tests.security.certificates import KEY_PASSWORD
from tests.security.conftest import PASSWORD, Secured
from tests.security.tokens import CLIENT_ID, CLIENT_SECRET
from tests.support import headers_of, wait_until

SECRETS = (PASSWORD, KEY_PASSWORD, CLIENT_SECRET)
WRONG = "wrong-Password-never-shown"

Ways = dict[str, Callable[[Secured], BrokerSettings]]


def plain(secured: Secured, password: str = PASSWORD) -> BrokerSettings:
    return secured.settings(
        "SASL",
        security_protocol="SASL_PLAINTEXT",
        sasl_mechanism="PLAIN",
        sasl_username="plain",
        sasl_password=password,
    )


def scram_over_tls(secured: Secured) -> BrokerSettings:
    return secured.settings(
        "SASLTLS",
        security_protocol="SASL_SSL",
        sasl_mechanism="SCRAM-SHA-256",
        sasl_username="writer",
        sasl_password=PASSWORD,
        ssl_ca_location=secured.authority.path,
    )


def oauth(secured: Secured, secret: str = CLIENT_SECRET, url: str | None = None) -> BrokerSettings:
    return secured.settings(
        "OAUTH",
        security_protocol="SASL_PLAINTEXT",
        sasl_mechanism="OAUTHBEARER",
        oauth_token_url=url or secured.token_url,
        oauth_client_id=CLIENT_ID,
        oauth_client_secret=secret,
    )


def tls(secured: Secured, listener: str = "TLS", ca: Path | None = None, **values: object) -> BrokerSettings:
    return secured.settings(
        listener, security_protocol="SSL", ssl_ca_location=ca or secured.authority.path, **values
    )


def mutual(secured: Secured, key_password: str = KEY_PASSWORD) -> BrokerSettings:
    return tls(
        secured,
        "MUTUAL",
        ssl_certificate_location=secured.client.certificate,
        ssl_key_location=secured.client.key,
        ssl_key_password=key_password,
    )


WAYS: Ways = {
    "PLAIN": plain,
    "SCRAM-SHA-512": lambda secured: secured.scram("writer"),
    "SCRAM-SHA-256 over TLS": scram_over_tls,
    "OAUTHBEARER": oauth,
    "mutual TLS": mutual,
}
PRINCIPALS = {
    "PLAIN": "User:plain",
    "SCRAM-SHA-512": "User:writer",
    "SCRAM-SHA-256 over TLS": "User:writer",
    "OAUTHBEARER": f"User:{CLIENT_ID}",
    "mutual TLS": "User:CN=client",
}


def allow(
    admin: AdminClient, principal: str, resource: ResourceType, name: str, *operations: AclOperation
) -> None:
    """Add access rules, and wait until the authorizer has them."""
    rules = [
        AclBinding(
            resource, name, ResourcePatternType.LITERAL, principal, "*", operation, AclPermissionType.ALLOW
        )
        for operation in operations
    ]
    for future in admin.create_acls(rules).values():
        future.result(20)


def price(symbol: str = "BTC-USDT") -> Price:
    return Price(
        exchange_id="binance",
        symbol=symbol,
        usd_price=64_000.25,
        last_updated=datetime(2026, 1, 2, tzinfo=UTC),
    )


def read_one(settings: BrokerSettings, topic: str, group: str) -> object:
    """Return the first message of a topic, or the refusal as the platform words it."""
    consumer = Consumer(
        {
            **base_config(settings),
            "group.id": group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    consumer.subscribe([topic])
    try:
        record = consumer.poll(20)
    finally:
        consumer.close()
    assert record is not None, f"neither a message of {topic} nor an error came"
    error = record.error()
    if error is not None:
        raise broker_error(error, f"reading {topic}", settings.brokers)
    return MessageDeserializer().decode(record.value(), list(headers_of(record).items()), topic).message


@pytest.mark.parametrize("way", WAYS)
def test_messages_go_round(
    way: str, secured: Secured, admin: AdminClient, secured_topic: TopicFactory
) -> None:
    topic = secured_topic("crypto-prices")
    allow(admin, PRINCIPALS[way], ResourceType.TOPIC, topic, AclOperation.WRITE, AclOperation.READ)
    allow(admin, PRINCIPALS[way], ResourceType.GROUP, topic, AclOperation.READ)
    settings = WAYS[way](secured)
    with RedpandaClient(settings) as client:
        wait_until(
            lambda: topic in admin_client(settings).list_topics(timeout=5).topics, what="the rules hold"
        )
        assert client.produce(topic, [price()]) == 1
    assert read_one(settings, topic, topic) == price()


REFUSALS: dict[str, tuple[Callable[[Secured], BrokerSettings], str]] = {
    "wrong SCRAM password": (
        lambda secured: secured.scram("reader", WRONG),
        r"invalid credentials.*Check REDPANDA_SASL_",
    ),
    "wrong PLAIN password": (
        lambda secured: plain(secured, WRONG),
        r"Invalid username or password.*Check REDPANDA_SASL_",
    ),
    "unknown user": (lambda secured: secured.scram("no-such-user"), r"invalid credentials"),
    "mechanism not offered": (
        lambda secured: plain(secured).model_copy(update={"brokers": secured.broker.bootstrap_of("OAUTH")}),
        r"supported mechanisms: OAUTHBEARER",
    ),
    "wrong OAuth secret": (
        lambda secured: oauth(secured, WRONG),
        r"acquire SASL OAUTHBEARER token.*invalid_client.*Check .*REDPANDA_OAUTH_",
    ),
    "no token endpoint": (
        lambda secured: oauth(secured, url="http://127.0.0.1:9/token"),
        r"acquire SASL OAUTHBEARER token.*REDPANDA_OAUTH_",
    ),
    "unknown authority": (
        lambda secured: tls(secured, ca=secured.stranger.certificate.with_name("foreign-ca.pem")),
        r"certificate of 127\.0\.0\.1:\d+ is not trusted.*REDPANDA_SSL_CA_LOCATION",
    ),
    "expired certificate": (
        lambda secured: tls(secured, "EXPIRED"),
        r"certificate of .* is not trusted: certificate has expired.*Renew",
    ),
    "certificate of another host": (
        lambda secured: tls(secured, "WRONGHOST"),
        r"certificate of .* is not trusted: IP address mismatch.*REDPANDA_BROKERS",
    ),
    "no client certificate": (
        lambda secured: tls(secured, "MUTUAL"),
        r"asks for a client certificate: set REDPANDA_SSL_CERTIFICATE_LOCATION",
    ),
    "foreign client certificate": (
        lambda secured: tls(
            secured,
            "MUTUAL",
            ssl_certificate_location=secured.stranger.certificate,
            ssl_key_location=secured.stranger.key,
        ),
        r"does not trust the client certificate .*stranger",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refusal_is_one_clear_error(case: str, secured: Secured, caplog: pytest.LogCaptureFixture) -> None:
    make, expected = REFUSALS[case]
    settings = make(secured)
    caplog.set_level(logging.DEBUG)
    with pytest.raises(AuthenticationError, match=expected) as raised:
        Provisioner(settings).actual()
    assert "\n" not in str(raised.value)
    assert settings.brokers in str(raised.value)
    assert_no_secret(caplog.text, str(raised.value), repr(raised.value), repr(settings))


@pytest.mark.parametrize("case", ["wrong SCRAM password", "expired certificate"])
def test_client_is_told_too(case: str, secured: Secured) -> None:
    make, expected = REFUSALS[case]
    client = RedpandaClient(make(secured))
    with pytest.raises(AuthenticationError, match=expected):
        client.publish([price()])
    client.close()


def test_consumer_is_told_too(secured: Secured) -> None:
    settings = secured.scram("reader", WRONG)
    heard: list[str] = []

    def hear(error: KafkaError) -> None:
        if refusal(error) is not None:
            heard.append(error.str())

    consumer = Consumer({**base_config(settings), "group.id": "told", "error_cb": hear})
    consumer.subscribe(["any"])
    wait_until(lambda: consumer.poll(0.1) or heard, what="the refusal is heard")
    consumer.close()
    assert "invalid credentials" in heard[0]


UNUSABLE: dict[str, tuple[Callable[[Secured], BrokerSettings], str]] = {
    "wrong key password": (lambda secured: mutual(secured, WRONG), r"ssl\.key\.location"),
    "no such CA file": (lambda secured: tls(secured, ca=Path("/no/such/ca.pem")), r"ssl\.ca\.location"),
    "no user": (
        lambda secured: secured.settings("SASL", security_protocol="SASL_PLAINTEXT", sasl_mechanism="PLAIN"),
        r"sasl\.username and sasl\.password must be set",
    ),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_unusable_setting_is_named(case: str, secured: Secured) -> None:
    make, expected = UNUSABLE[case]
    with pytest.raises(SettingsError, match=expected) as raised:
        Provisioner(make(secured))
    assert_no_secret(str(raised.value))


def test_wrong_protocol_is_hinted_at(secured: Secured) -> None:
    with pytest.raises(BrokerError, match="REDPANDA_SECURITY_PROTOCOL"):
        Provisioner(secured.settings("SASL")).actual()


def test_without_the_right_to_see_a_topic(secured: Secured, secured_topic: TopicFactory) -> None:
    topic = secured_topic("crypto-prices")
    client = RedpandaClient(secured.scram("nobody"))
    with pytest.raises(AuthenticationError, match=rf"{topic}.*access rule"):
        client.produce(topic, [price()])
    client.close()


def test_without_the_right_to_write(
    secured: Secured, admin: AdminClient, secured_topic: TopicFactory
) -> None:
    topic, other = secured_topic("crypto-prices"), secured_topic("crypto-prices")
    allow(admin, "User:reader", ResourceType.TOPIC, topic, AclOperation.DESCRIBE)
    # The right to write anywhere gives the right to be idempotent.
    allow(admin, "User:reader", ResourceType.TOPIC, other, AclOperation.WRITE)
    with RedpandaClient(secured.scram("reader")) as client:
        client.produce(topic, [price()])
        with pytest.raises(NotAllowedError, match=rf"{topic} .*access rule \(ACL\).*write to {topic}"):
            client.flush(20)
        # One topic that is closed to this user does no harm to the next.
        client.produce(other, [price()])


def test_without_the_right_to_write_anything(
    secured: Secured, admin: AdminClient, secured_topic: TopicFactory
) -> None:
    topic = secured_topic("crypto-prices")
    allow(admin, "User:nobody", ResourceType.TOPIC, topic, AclOperation.DESCRIBE)
    client = RedpandaClient(secured.scram("nobody"))
    client.produce(topic, [price()])
    with pytest.raises(AuthenticationError, match=r"Cluster authorization failed.*access rule"):
        client.flush(5)
    # The message is still not written, and closing may say so again.
    with suppress(CoinstreamError):
        client.close(1)


@pytest.mark.parametrize("missing", ["topic", "group"])
def test_without_the_right_to_read(
    missing: str, secured: Secured, admin: AdminClient, secured_topic: TopicFactory
) -> None:
    topic = secured_topic("crypto-prices")
    if missing == "topic":
        allow(admin, "User:reader", ResourceType.TOPIC, topic, AclOperation.DESCRIBE)
        allow(admin, "User:reader", ResourceType.GROUP, topic, AclOperation.READ)
    else:
        allow(admin, "User:reader", ResourceType.TOPIC, topic, AclOperation.READ)
    with pytest.raises(AuthenticationError, match=rf"reading {topic}.*access rule"):
        read_one(secured.scram("reader"), topic, topic)


def test_without_the_right_to_administer(secured: Secured, admin: AdminClient) -> None:
    allow(admin, "User:reader", ResourceType.TOPIC, "crypto-forbidden", AclOperation.DESCRIBE)
    provisioner = Provisioner(secured.scram("reader"))
    spec = HEALTH.model_copy(update={"name": "crypto-forbidden"})
    with pytest.raises(AuthenticationError, match=r"create topic crypto-forbidden.*access rule"):
        provisioner.apply(provisioner.plan([spec]))


def assert_no_secret(*texts: str) -> None:
    for text in texts:
        for secret in (*SECRETS, WRONG):
            assert secret not in text
