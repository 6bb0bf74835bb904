"""Server properties: what Java reads is what was written, whatever the path holds."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from hypothesis import given
from hypothesis import strategies as st

from coinstream.errors import LocalBrokerError, PortTakenError
from coinstream.local_broker import LocalBroker, properties
from coinstream.local_broker.properties import write_properties

ESCAPE = re.compile(r"\\(u[0-9a-f]{4}|.)")


def as_java_reads(text: str) -> dict[str, str]:
    """Read a properties file by Java's rules: Latin-1, leading blanks dropped, escapes resolved."""
    found = {}
    for line in text.splitlines():
        key, _, value = line.partition("=")
        units = ESCAPE.sub(
            lambda match: chr(int(match[1][1:], 16)) if len(match[1]) > 1 else match[1], value.lstrip(" \t\f")
        )
        found[key] = units.encode("utf-16", "surrogatepass").decode("utf-16")
    return found


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_every_value_survives(tmp_path_factory: pytest.TempPathFactory, value: str) -> None:
    path = tmp_path_factory.mktemp("properties") / "server.properties"
    write_properties(path, {"log.dirs": value, "node.id": "1"})
    text = path.read_bytes().decode("latin-1")
    assert text.isascii()
    assert as_java_reads(text) == {"log.dirs": value, "node.id": "1"}


def test_a_home_with_unusual_letters_holds_the_data(tmp_path: Path) -> None:
    home = tmp_path / "mü ller % # 東京"
    with LocalBroker(home, port=0) as broker:
        producer = Producer({"bootstrap.servers": broker.bootstrap})
        assert producer.list_topics(timeout=30).brokers
    assert (home / "nodes-1" / "node-1" / "data" / "meta.properties").is_file()
    assert [path.name for path in tmp_path.iterdir()] == [home.name], "nothing lies beside the home"
    assert home.stat().st_mode & 0o077 == 0


def test_a_comma_in_the_path_is_refused_with_its_reason(tmp_path: Path) -> None:
    with pytest.raises(LocalBrokerError, match="comma"):
        LocalBroker(tmp_path / "a,b", port=0).start()


def cluster_id(bootstrap: str) -> str | None:
    return AdminClient({"bootstrap.servers": bootstrap}).list_topics(timeout=30).cluster_id


def test_a_free_port_that_another_broker_takes_first_is_given_up(
    broker: LocalBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = int(broker.bootstrap.rpartition(":")[2])
    first, real = [taken], properties.free_ports
    monkeypatch.setattr(
        properties, "free_ports", lambda count: [first.pop(), *real(count - 1)] if first else real(count)
    )
    with LocalBroker(tmp_path, port=0) as other:
        assert not first, "the taken port was tried"
        assert other.bootstrap != broker.bootstrap
        assert cluster_id(other.bootstrap) != cluster_id(broker.bootstrap)


def test_another_broker_at_a_chosen_port_is_no_start(
    broker: LocalBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = int(broker.bootstrap.rpartition(":")[2])
    # As if the other broker started after the check.
    monkeypatch.setattr(properties, "check_free", lambda ports: None)
    with pytest.raises(PortTakenError, match=rf"another broker|:{taken}: Address already in use"):
        LocalBroker(tmp_path, port=taken).start()
    assert cluster_id(broker.bootstrap)
