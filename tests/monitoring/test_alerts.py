"""Alerts reach a real webhook through apprise, and say what, since when, how much and where."""

import logging
from collections.abc import Iterator

import pytest
from pydantic import SecretStr

from coinstream.errors import SettingsError
from coinstream.monitoring.alerts import Alert, AlertChannels, AlertError, Hysteresis, Kind
from coinstream.monitoring.group_alerts import SensorCursor
from coinstream.settings import AlertSettings
from tests.monitoring.webhook import Webhook, webhook

ALERT = Alert(
    Kind.FAILURE,
    "group prices-to-db stopped on crypto-prices",
    1_700_000_000.0,
    "12,345 messages, the oldest 3 min old",
    ("coinstream lag prices-to-db", "http://127.0.0.1:3000/assets/topics/crypto-prices"),
)


@pytest.fixture
def hook() -> Iterator[Webhook]:
    with webhook() as running:
        yield running


def channels(urls: str) -> AlertChannels:
    return AlertChannels(AlertSettings(alerts=SecretStr(urls)))


def test_an_alert_arrives_with_all_that_people_need(hook: Webhook) -> None:
    assert channels(hook.url).send(ALERT) == 1
    (posted,) = hook.received
    assert posted["title"] == "[coinstream] Alert: group prices-to-db stopped on crypto-prices"
    assert posted["type"] == "failure"
    for part in ("2023-11-14 22:13:20 UTC", "12,345 messages", *ALERT.where):
        assert part in posted["message"]


@pytest.mark.parametrize("separator", [",", " ", ", ", "\n"])
def test_several_channels(hook: Webhook, separator: str) -> None:
    assert channels(separator.join([hook.url, hook.url])).send(ALERT) == 2
    assert len(hook.received) == 2


def test_a_comma_inside_a_url_is_part_of_it() -> None:
    assert len(channels("mailto://user:pass@example.com?to=a@example.com,b@example.com")) == 1


def test_a_failing_channel_is_reported_and_the_others_are_served(hook: Webhook) -> None:
    with pytest.raises(AlertError, match="1 of 2") as caught:
        channels(f"json://user:hush-hush@127.0.0.1:1/x {hook.url}").send(ALERT)
    assert caught.value.delivered == 1
    assert "hush-hush" not in str(caught.value)
    assert len(hook.received) == 1


def test_a_refusing_channel_is_reported(hook: Webhook) -> None:
    hook.status = 500
    with pytest.raises(AlertError, match="1 of 1"):
        channels(hook.url).send(ALERT)


def test_no_channel_is_no_error() -> None:
    assert channels("").send(ALERT) == 0


def test_a_bad_url_is_named_by_its_number_only() -> None:
    with pytest.raises(SettingsError, match="number 2") as caught:
        channels("json://127.0.0.1:1 nonsense://top-secret")
    assert "top-secret" not in str(caught.value)


def test_the_urls_come_from_the_environment_and_do_not_show(
    monkeypatch: pytest.MonkeyPatch, hook: Webhook
) -> None:
    monkeypatch.setenv("COINSTREAM_ALERTS", hook.url)
    assert AlertChannels().send(ALERT) == 1
    assert str(hook.port) not in repr(AlertSettings())


def test_an_alert_survives_being_stored() -> None:
    assert Alert.load(ALERT.dump()) == ALERT


def numbered(count: int) -> list[Alert]:
    return [Alert(Kind.FAILURE, f"group {n} has stopped", float(n), "1 message", ()) for n in range(count)]


def ticked(cursor: SensorCursor, sender: AlertChannels) -> SensorCursor:
    """Deliver as a tick does, and return the cursor that the next tick loads."""
    log = logging.getLogger("tests.alerts")
    cursor.deliver(sender, log)
    return SensorCursor.load(cursor.dump(0), Hysteresis(), log)


def test_many_alerts_of_one_tick_are_all_sent(hook: Webhook) -> None:
    cursor = SensorCursor(Hysteresis())
    for alert in numbered(70):
        cursor.announce(alert)
    ticked(cursor, channels(hook.url))
    assert hook.titles() == [alert.title for alert in numbered(70)]


def test_alerts_that_are_not_kept_are_counted_and_logged(
    hook: Webhook, caplog: pytest.LogCaptureFixture
) -> None:
    sender = channels(hook.url)
    hook.status = 503
    cursor = SensorCursor(Hysteresis())
    for part in (numbered(70)[:60], numbered(70)[60:]):
        for alert in part:
            cursor.announce(alert)
        cursor = ticked(cursor, sender)
    assert hook.received == []
    hook.status = 200
    ticked(ticked(cursor, sender), sender)
    dropped, *rest = hook.titles()
    assert "20 earlier alert(s) reached no channel" in dropped
    assert rest == [alert.title for alert in numbered(70)[20:]]
    logged = [text for text in caplog.messages if text.startswith("dropped")]
    assert len(logged) == 20
    assert "group 0 has stopped" in logged[0]
