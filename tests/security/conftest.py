"""Start a broker with a listener per authentication method, which denies what no ACL allows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from confluent_kafka.admin import (
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialAlteration,
    UserScramCredentialUpsertion,
)

from coinstream.local_broker import Listener, LocalBroker
from coinstream.settings import BrokerSettings
from tests.conftest import TopicFactory, topic_factory
from tests.security.certificates import KEY_PASSWORD, Authority, Pair
from tests.security.tokens import token_endpoint
from tests.support import READY_TIMEOUT_S

PASSWORD = "sasl-Password-never-shown"
_LOGIN = "org.apache.kafka.common.security"


@dataclass(frozen=True)
class Secured:
    """The broker, and what a client needs to be let in."""

    broker: LocalBroker
    authority: Authority
    client: Pair
    stranger: Pair
    """A client certificate of an authority that the broker does not know."""
    token_url: str

    def settings(self, listener: str, **values: Any) -> BrokerSettings:
        """Return settings for a listener. Failing requests end after five seconds."""
        wanted = {"brokers": self.broker.bootstrap_of(listener), "request_timeout_ms": 5000, **values}
        return BrokerSettings(**wanted)

    def scram(self, user: str, password: str = PASSWORD) -> BrokerSettings:
        """Return settings of a SCRAM user."""
        return self.settings(
            "SASL",
            security_protocol="SASL_PLAINTEXT",
            sasl_mechanism="SCRAM-SHA-512",
            sasl_username=user,
            sasl_password=password,
        )


@pytest.fixture(scope="session")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    folder = tmp_path_factory.mktemp("secured")
    authority = Authority(folder / "ca")
    server = authority.issue("server")
    client = authority.issue("client", password=KEY_PASSWORD)
    stranger = Authority(folder / "other", "foreign-ca").issue("stranger")
    listeners = [
        Listener("SASL", "SASL_PLAINTEXT", _sasl()),
        Listener("SASLTLS", "SASL_SSL", _sasl() | _tls(server)),
        Listener("OAUTH", "SASL_PLAINTEXT", _oauth()),
        Listener("TLS", "SSL", _tls(server)),
        Listener("MUTUAL", "SSL", _tls(server) | _trust(authority)),
        Listener("EXPIRED", "SSL", _tls(authority.issue("expired", valid=-timedelta(days=1)))),
        Listener("WRONGHOST", "SSL", _tls(authority.issue("elsewhere", address="192.0.2.7"))),
    ]
    properties = {
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        # The brokers themselves, and the tests as their administrator, come through the plain listener.
        "super.users": "User:ANONYMOUS",
    }
    broker = LocalBroker(
        folder / "broker", port=0, ready_timeout_s=READY_TIMEOUT_S, listeners=listeners, properties=properties
    )
    with token_endpoint() as token_url, broker:
        _add_users(broker.bootstrap, ["reader", "writer", "nobody", "plain"])
        yield Secured(broker, authority, client, stranger, token_url)


@pytest.fixture(scope="session")
def secured_topic(secured: Secured) -> TopicFactory:
    return topic_factory(secured.broker.bootstrap)


@pytest.fixture(scope="session")
def admin(secured: Secured) -> AdminClient:
    return AdminClient({"bootstrap.servers": secured.broker.bootstrap})


@pytest.fixture(autouse=True)
def _rights_end_with_their_test(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "secured" in request.fixturenames:
        secured: Secured = request.getfixturevalue("secured")
        # None stands for any name; the stub wants text.
        anything: Any = None
        every = AclBindingFilter(
            ResourceType.ANY,
            anything,
            ResourcePatternType.ANY,
            anything,
            anything,
            AclOperation.ANY,
            AclPermissionType.ANY,
        )
        admin = AdminClient({"bootstrap.servers": secured.broker.bootstrap})
        for deleted in admin.delete_acls([every]).values():
            deleted.result(30)


def _sasl() -> dict[str, str]:
    plain = f'{_LOGIN}.plain.PlainLoginModule required user_plain="{PASSWORD}";'
    scram = f"{_LOGIN}.scram.ScramLoginModule required;"
    return {
        "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
        "plain.sasl.jaas.config": plain,
        "scram-sha-256.sasl.jaas.config": scram,
        "scram-sha-512.sasl.jaas.config": scram,
    }


def _oauth() -> dict[str, str]:
    module = f"{_LOGIN}.oauthbearer.OAuthBearerLoginModule required;"
    validator = f"{_LOGIN}.oauthbearer.internals.unsecured.OAuthBearerUnsecuredValidatorCallbackHandler"
    return {
        "sasl.enabled.mechanisms": "OAUTHBEARER",
        "oauthbearer.sasl.jaas.config": module,
        "oauthbearer.sasl.server.callback.handler.class": validator,
    }


def _tls(pair: Pair) -> dict[str, str]:
    return {"ssl.keystore.type": "PEM", "ssl.keystore.location": str(pair.keystore)}


def _trust(authority: Authority) -> dict[str, str]:
    return {
        "ssl.client.auth": "required",
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(authority.path),
    }


def _add_users(bootstrap: str, names: list[str]) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    for mechanism in (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512):
        info = ScramCredentialInfo(mechanism, 4096)
        changes: list[UserScramCredentialAlteration] = [
            UserScramCredentialUpsertion(name, info, PASSWORD.encode()) for name in names
        ]
        for future in admin.alter_user_scram_credentials(changes).values():
            future.result(20)
