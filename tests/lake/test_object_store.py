"""Tables on an object store: a server that speaks S3, data files in a bucket of it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyarrow.fs import FileSelector, S3FileSystem

from coinstream.errors import LakeError
from coinstream.lake.landing import land
from coinstream.lake.maintenance import compact
from coinstream.lake.query import query
from coinstream.lake.schemas import spec_named
from coinstream.lake.store import Lake
from coinstream.settings import BrokerSettings, HomeSettings, LakeSettings
from tests.conftest import TopicFactory
from tests.lake.support import level1, send

SPEC = spec_named("level1")
KEYS = {"s3.access-key-id": "somebody", "s3.secret-access-key": "secret", "s3.region": "eu-central-1"}


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """Yield the address of a server that speaks S3."""
    # Its import takes a second, which the other test processes save.
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # it tells every request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture
def bucket(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return a bucket of that server."""
    # It would be asked for instead of the endpoint.
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    store(endpoint).create_dir("market-data")
    return "market-data"


def store(endpoint: str) -> S3FileSystem:
    return S3FileSystem(
        access_key=KEYS["s3.access-key-id"],
        secret_key=KEYS["s3.secret-access-key"],
        region=KEYS["s3.region"],
        endpoint_override=endpoint,
        allow_bucket_creation=True,
    )


def lake_in(bucket: str, endpoint: str, home: Path) -> Lake:
    settings = LakeSettings(
        warehouse=f"s3://{bucket}/lake", properties={**KEYS, "s3.endpoint": endpoint}, batch_rows=500
    )
    return Lake(settings, HomeSettings(home=home))


def test_landed_queried_and_compacted(
    bucket: str, endpoint: str, broker_settings: BrokerSettings, topic: TopicFactory, tmp_path: Path
) -> None:
    name, lake = topic("level1", partitions=2), lake_in(bucket, endpoint, tmp_path)
    send(broker_settings.brokers, name, [level1() for _ in range(1_200)])
    assert land(lake, broker_settings, SPEC, topic=name).rows == 1_200

    found = store(endpoint).get_file_info(FileSelector(f"{bucket}/lake/market/level1/data", recursive=True))
    assert sum(file.is_file for file in found) >= 3, "one file a commit at least"
    assert not list(tmp_path.rglob("*.parquet")), "nothing of the table is on the disk"
    count = 'SELECT count(*), count(DISTINCT (partition, "offset")) FROM level1'
    assert query(lake, count).rows == [(1_200, 1_200)]

    assert compact(lake, "level1") is not None
    assert query(lake, count).rows == [(1_200, 1_200)]
    # A newly opened lake continues at its offsets.
    assert land(lake_in(bucket, endpoint, tmp_path), broker_settings, SPEC, topic=name).rows == 0


def test_a_bucket_that_is_missing_is_one_clear_error(
    endpoint: str, broker_settings: BrokerSettings, topic: TopicFactory, tmp_path: Path
) -> None:
    name, lake = topic("level1"), lake_in("nowhere", endpoint, tmp_path)
    send(broker_settings.brokers, name, [level1()])
    with pytest.raises(LakeError, match="nowhere"):
        land(lake, broker_settings, SPEC, topic=name)
