"""Settings that no other test covers take effect."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
from confluent_kafka import Consumer
from pydantic import SecretStr
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.manifest import DataFile
from pyiceberg.typedef import Record

from coinstream.errors import LakeError
from coinstream.feeds.handover import Failures
from coinstream.lake.commit import CommitResult, retry_on_conflict
from coinstream.lake.maintenance import _bins
from coinstream.lake.store import Lake
from coinstream.settings import BrokerSettings, LakeSettings
from tests.security.tokens import CLIENT_ID, CLIENT_SECRET, token_endpoint
from tests.support import wait_until

ROOT = Path(__file__).resolve().parent.parent
_MIB = 1_048_576


def test_a_conflicting_commit_is_attempted_as_often_as_the_setting_allows() -> None:
    attempts: list[int] = []

    def conflict() -> CommitResult:
        attempts.append(len(attempts))
        raise CommitFailedException("another writer was first")

    with pytest.raises(LakeError, match="the commit conflicted with other writers 2 times"):
        retry_on_conflict(Lake(LakeSettings(commit_attempts=2)), "land level1", conflict)
    assert len(attempts) == 2


def small_file(name: str) -> DataFile:
    file = DataFile.from_args(file_path=name, file_size_in_bytes=_MIB, record_count=10, partition=Record())
    file.spec_id = 0
    return file


@pytest.mark.parametrize(("limit", "merged"), [(2 * _MIB, [2, 2, 2]), (3 * _MIB, [3, 3]), (6 * _MIB, [6])])
def test_compaction_merges_files_up_to_the_size_of_the_setting(limit: int, merged: list[int]) -> None:
    files = [small_file(f"{number}.parquet") for number in range(6)]
    settings = LakeSettings(compact_to_bytes=limit)
    assert [len(chosen) for chosen in _bins(files, settings)] == merged


def test_the_backoff_of_a_crashed_feed_grows_up_to_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COINSTREAM_WATCH_FEED_BACKOFF_S", "2")
    monkeypatch.setenv("COINSTREAM_WATCH_FEED_BACKOFF_MAX_S", "7")
    timing = runpy.run_path(str(ROOT / "sensors" / "feeds.py"))["TIMING"]
    assert [Failures(count).wait(timing) for count in (1, 2, 3, 9)] == [2, 4, 7, 7]


def test_the_scope_of_a_token_is_requested_from_the_token_endpoint() -> None:
    forms: list[dict[str, list[str]]] = []
    with token_endpoint(forms) as url:
        settings = BrokerSettings(
            brokers="127.0.0.1:9",
            security_protocol="SASL_PLAINTEXT",
            sasl_mechanism="OAUTHBEARER",
            oauth_token_url=url,
            oauth_client_id=CLIENT_ID,
            oauth_client_secret=SecretStr(CLIENT_SECRET),
            oauth_scope="market-data",
        )
        consumer = Consumer({**settings.kafka_config(), "group.id": "scope"})
        try:
            wait_until(lambda: forms or None, what="a request for a token")
        finally:
            consumer.close()
    assert forms[0]["scope"] == ["market-data"]
