"""The notebooks run on real topics and tables; the explorer's token stays with its user."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import re
import runpy
import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from marimo import as_html
from typer.testing import CliRunner

from coinstream.cli.lake import app
from coinstream.errors import BrokerError, LakeError
from coinstream.explore.monitoring import LagHistory, dead_letters, quarantined, replay_refused
from coinstream.explore.quotes import (
    candle_markets,
    candles,
    latest_of,
    latest_quotes,
    most_quoted,
    rounded,
    sample_quotes,
    staleness,
)
from coinstream.explore.topic_browser import browse, fullest_topic
from coinstream.lake.charts import candlestick_chart, to_svg
from coinstream.lake.landing import land
from coinstream.lake.query import export, sql, table
from coinstream.lake.schemas import spec_named
from coinstream.lake.statistics import exchange_statistics, write_report
from coinstream.lake.store import Lake
from coinstream.settings import BrokerSettings
from coinstream.stack.process import explorer_command, explorer_token
from tests.conftest import ROOT, TopicFactory
from tests.lake.support import level1, ohlcv, send

QUOTES = 40


@pytest.fixture
def landed(
    home: Path, topic: TopicFactory, broker_settings: BrokerSettings, monkeypatch: pytest.MonkeyPatch
) -> Lake:
    """Return tables with forty quotes of two symbols, one of them refused, and five candles."""
    monkeypatch.setenv("REDPANDA_BROKERS", broker_settings.brokers)
    quotes, candle_topic = topic("crypto-level1-notebooks"), topic("crypto-ohlcv-notebooks")
    symbols = ("BTC/USDT", "ETH/USDT")
    good = [level1(number, symbol=symbols[number % 2]) for number in range(QUOTES)]
    send(broker_settings.brokers, quotes, [*good, {"bestBid": -1}])
    send(broker_settings.brokers, candle_topic, [ohlcv(number) for number in range(5)])
    lake = Lake()
    land(lake, broker_settings, spec_named("level1"), topic=quotes)
    land(lake, broker_settings, spec_named("ohlcv"), topic=candle_topic)
    return lake


def definitions(notebook: str) -> dict[str, Any]:
    """Run a notebook's cells in this process and return what they define."""
    app = runpy.run_path(str(ROOT / "notebooks" / notebook))["app"]
    _, found = app.run()
    return dict(found)


def test_the_example_notebooks_show_the_rows_of_the_tables(landed: Lake) -> None:
    spreads = definitions("spreads.py")["spreads"]
    assert dict(zip(spreads["symbol"], spreads["quotes"], strict=True)) == {"BTC/USDT": 20, "ETH/USDT": 20}
    (latency,) = definitions("latency.py")["latency"].to_dicts()
    assert (latency["exchange"], latency["quotes"], latency["receipt_ms_p50"]) == ("binance", QUOTES, 20)


def test_the_explorer_runs_on_a_broker_with_topics(landed: Lake, broker_settings: BrokerSettings) -> None:
    found = definitions("market.py")
    assert found["brokers"].brokers == broker_settings.brokers
    assert "binance BTC/USDT" in found["markets"]


def output(monkeypatch: pytest.MonkeyPatch, brokers: str, page: str) -> str:
    """Return what the cells of the explorer show on a page."""
    monkeypatch.setenv("REDPANDA_BROKERS", brokers)
    monkeypatch.setattr("marimo.query_params", lambda: {"page": page})
    outputs, _ = runpy.run_path(str(ROOT / "notebooks" / "market.py"))["app"].run()
    return " ".join(as_html(each).text for each in outputs if each is not None)


@pytest.mark.system  # runs the whole notebook
@pytest.mark.parametrize("address", ["127.0.0.1:1", "no-such-host.invalid:9092"])
def test_the_explorer_names_a_broker_that_does_not_answer(
    home: Path, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv("REDPANDA_REQUEST_TIMEOUT_MS", "1000")
    shown = output(monkeypatch, address, "Quotes")
    assert "No broker." in shown
    assert address in shown
    monkeypatch.setenv("REDPANDA_BROKERS", address)
    brokers = BrokerSettings()
    history = LagHistory(brokers)
    asks = (lambda: fullest_topic(brokers, ["crypto-level1"]), lambda: browse(brokers, "crypto-level1"))
    for ask in (
        *asks,
        history.sample,
        lambda: sample_quotes(brokers),
        lambda: dead_letters(brokers, "crypto-level1"),
    ):
        with pytest.raises(BrokerError):
            ask()


@pytest.mark.system  # runs the whole notebook
def test_the_candles_page_says_why_its_tables_cannot_be_read(
    home: Path, broker_settings: BrokerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(lake: Lake) -> None:
        raise LakeError("the catalog is damaged")

    assert "No candles yet" in output(monkeypatch, broker_settings.brokers, "Candles")
    monkeypatch.setattr("coinstream.explore.quotes.candle_markets", refuse)
    shown = output(monkeypatch, broker_settings.brokers, "Candles")
    assert "the catalog is damaged" in shown
    assert "No candles yet" not in shown


@pytest.mark.system  # runs the whole notebook
def test_the_lag_page_says_that_the_broker_stopped_answering(
    home: Path, broker_settings: BrokerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise BrokerError("no broker answers")

    monkeypatch.setattr(LagHistory, "sample", refuse)
    monkeypatch.setattr("coinstream.explore.topic_browser.fullest_topic", refuse)
    assert "no broker answers" in output(monkeypatch, broker_settings.brokers, "Lag and rates")


def test_frames_hold_what_the_explorer_draws(landed: Lake, broker_settings: BrokerSettings) -> None:
    latest = latest_quotes(broker_settings)
    mine = latest.filter((latest["exchange"] == "binance") & (latest["symbol"] == "ETH/USDT"))
    assert mine.height == 1
    assert mine["bid"][0] > 0
    drawn = candles(landed, "BTC/USDT", "binance")
    assert drawn.select("open", "high", "low", "close", "volume").unique().rows() == [
        (100.0, 110.0, 90.0, 105.0, 12.5)
    ]
    assert drawn.height == 5
    assert candle_markets(landed).rows() == [("binance", "BTC/USDT", 5)]
    assert rounded(exchange_statistics(landed))["quotes"].to_list() == [QUOTES]
    assert (staleness(sample_quotes(broker_settings))["stale_s"] > 0).all()
    rows, reasons = quarantined(landed)
    assert (rows.height, reasons.select("count", "not_stored").rows()) == (1, [(1, 1)])
    assert replay_refused(landed, "level1", dry_run=True).startswith("Would land 0 of 1 refused")
    assert replay_refused(landed, "level1", "no such reason", dry_run=False).startswith("Landed 0 of 0")
    history = LagHistory(broker_settings)
    history.sample()
    assert set(history.lag.columns) == {"time", "group", "messages", "seconds", "status", "reason"}


def test_charts_show_the_newest_quotes_of_the_most_quoted_markets() -> None:
    start = datetime(2026, 1, 5, 10, tzinfo=UTC)
    markets = [("a", "X/Y", 3, 0), ("b", "X/Y", 2, 0), ("a", "Z/Y", 1, 0), ("a", "OLD/Y", 9, 600)]
    rows = [
        {"exchange": exchange, "symbol": symbol, "bid": 1.0 + number, "ask": 2.0 + number, "spread_bp": 1.0}
        | {"received": start - timedelta(seconds=older + count - number)}
        for exchange, symbol, count, older in markets
        for number in range(count)
    ]
    crossed = rows[0] | {"bid": 9.0, "ask": 1.0, "received": start}
    quotes = pl.DataFrame([*rows, crossed]).sort("received")
    assert dict(most_quoted(quotes, markets=2)["market"].value_counts().iter_rows()) == {
        "a X/Y": 3,
        "b X/Y": 2,
    }
    latest = latest_of(quotes, now=start + timedelta(seconds=5))
    newest = {(row["exchange"], row["symbol"]): row for row in latest.iter_rows(named=True)}
    assert newest["a", "OLD/Y"]["age_s"] == 606.0
    assert newest["a", "X/Y"]["bid"] == 9.0
    assert dict(staleness(quotes, start).iter_rows()) == {"a": 0.0, "b": 1.0}


def test_a_chart_of_one_candle_has_a_body_and_room_around_it() -> None:
    at = datetime(2026, 1, 5, 10, tzinfo=UTC)
    one = {"time": at, "open": 5.0, "high": 6.0, "low": 4.0, "close": 5.0, "volume": 2.0}
    svg = to_svg(candlestick_chart(pl.DataFrame([one]), "binance BTC/USDT"))
    assert "binance BTC/USDT" in svg
    assert "10:05" in svg
    assert "no data yet" in to_svg(candlestick_chart(pl.DataFrame([one]).clear(), "nothing"))


def test_one_line_from_sql_or_a_table_to_arrow_polars_and_pandas(landed: Lake) -> None:
    counted = sql("SELECT count(*) AS n FROM level1 WHERE symbol = $symbol", {"symbol": "BTC/USDT"})
    assert counted.arrow().to_pylist() == [{"n": 20}]
    assert counted.polars().rows() == [(20,)]
    assert counted.pandas()["n"].tolist() == [20]
    assert table("level1").polars().height == QUOTES
    # Quotes are 10 ms apart: a tenth of a second holds the newest eleven.
    assert table("level1", hours=0.1 / 3600).polars().height == 11
    with pytest.raises(LakeError, match="only SELECT statements are allowed"):
        sql("DROP TABLE level1")
    with pytest.raises(LakeError, match="no event time"):
        table("quarantine", hours=1)


def test_rows_are_exported_to_csv_and_parquet(landed: Lake, tmp_path: Path) -> None:
    csv_file, parquet = tmp_path / "quotes.csv", tmp_path / "quotes.parquet"
    statement = 'SELECT symbol, best_bid, "timestamp" FROM level1 ORDER BY "timestamp"'
    done = CliRunner().invoke(app, ["sql", statement, "--csv", str(csv_file), "--parquet", str(parquet)])
    assert done.exit_code == 0, done.output
    assert f"{QUOTES} rows" in done.output
    assert csv_file.read_text().splitlines()[:2] == [
        "symbol,best_bid,timestamp",
        "BTC/USDT,61000.120000000000000000,2026-01-05T10:00:00.000Z",
    ]
    assert pl.read_parquet(parquet).height == QUOTES
    with pytest.raises(LakeError, match="cannot write the rows"):
        export(statement, csv=tmp_path / "nowhere" / "quotes.csv")


@pytest.mark.parametrize("option", ["--csv", "--parquet"])
def test_a_failed_export_leaves_no_partial_file(
    landed: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    folder = tmp_path / "exports"
    folder.mkdir()
    file, linked = folder / "quotes", folder / "link"
    linked.symlink_to(file)
    file.write_text("before")
    file.chmod(0o640)
    command = ["sql", "SELECT symbol FROM level1", option, str(linked)]
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def write_a_part(self: object, to: Path, *args: object, **options: object) -> None:
        to.write_bytes(b"a part")
        raise full

    # Path and DataFrame are where a full disk shows itself.
    with monkeypatch.context() as patched:
        if option == "--csv":
            patched.setattr(Path, "write_text", lambda path, *args, **options: write_a_part(None, path))
        else:
            patched.setattr(pl.DataFrame, "write_parquet", write_a_part)
        failed = CliRunner().invoke(app, command)
    assert isinstance(failed.exception, LakeError)
    assert str(failed.exception) == f"cannot write the rows to {linked}: No space left on device"
    assert file.read_text() == "before"
    assert {one.name for one in folder.iterdir()} == {"quotes", "link"}
    assert CliRunner().invoke(app, command).exit_code == 0
    assert (linked.is_symlink(), file.read_bytes()[:3] in (b"sym", b"PAR")) == (True, True)
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert {one.name for one in folder.iterdir()} == {"quotes", "link"}


@pytest.mark.parametrize("place", ["", "/dev/full"])
def test_a_destination_that_cannot_be_written_is_named(landed: Lake, tmp_path: Path, place: str) -> None:
    to = Path(place or tmp_path)
    reason = "No space left on device" if place else "Is a directory"
    with pytest.raises(LakeError, match=f"cannot write the rows to {to}: {reason}"):
        export("SELECT symbol FROM level1", csv=to)
    with pytest.raises(LakeError, match=f"cannot write the report to {to}: {reason}"):
        write_report(landed, to)


def test_csv_holds_lists_bytes_and_microseconds(landed: Lake, tmp_path: Path) -> None:
    one = sql(
        "SELECT [[1.5::DECIMAL(38,18), 2]] AS bids, {'a': NULL, 'b': 'x\"€'} AS o, 'a\\xFF'::BLOB AS raw, "
        "TIMESTAMPTZ '2026-01-05 10:00:00.000001+02' AS at, TIMESTAMP '2026-01-05 10:00:00' AS naive, "
        "NULL AS nothing, 'a,\"b\"\nc' AS text, DATE '2026-01-05' AS day"
    ).csv()
    [row] = csv.DictReader(io.StringIO(one))
    assert json.loads(row["bids"]) == [[1.5, 2]]
    assert json.loads(row["o"]) == {"a": None, "b": 'x"€'}
    assert (row["raw"], row["nothing"], row["text"]) == ("a\\xff", "", 'a,"b"\nc')
    assert (row["at"], row["naive"]) == ("2026-01-05T08:00:00.000001Z", "2026-01-05T10:00:00.000")
    assert row["day"] == "2026-01-05"
    assert export("SELECT * FROM quarantine", csv=tmp_path / "refused.csv") == 1
    [refused] = csv.DictReader(io.StringIO((tmp_path / "refused.csv").read_text()))
    assert isinstance(json.loads(refused["rules"]), list)
    assert '"bestBid":-1' in refused["value"].replace(" ", "")
    with pytest.raises(LakeError, match=r"column i is an interval.*epoch\(i\)"):
        sql("SELECT INTERVAL 1 HOUR AS i").polars()
    with pytest.raises(LakeError, match="rename one with AS"):
        sql("SELECT 1 AS a, 2 AS a").csv()


def test_csv_goes_to_standard_output_alone(landed: Lake) -> None:
    done = CliRunner().invoke(app, ["sql", "SELECT symbol FROM level1 ORDER BY symbol LIMIT 2", "--csv", "-"])
    assert (done.exit_code, done.stdout) == (0, "symbol\nBTC/USDT\nBTC/USDT\n")
    assert CliRunner().invoke(app, ["sql", "SELECT 1", "--csv", "-", "--json"]).exit_code == 2


def test_the_report_draws_each_market_on_its_own_scale_and_needs_no_network(
    landed: Lake, tmp_path: Path
) -> None:
    page = tmp_path / "report.html"
    write_report(landed, page)
    text = page.read_text()
    assert text.count("<svg") == 4
    assert text.count(">time (UTC)<") == 4
    assert "color-scheme:light dark" in text
    labels = re.findall(r"<text[^>]*>", text)
    assert labels
    assert all("currentColor" in label for label in labels), (
        "a fixed color is unreadable on one of the schemes"
    )
    assert "binance BTC/USDT" in text
    assert "binance ETH/USDT" in text
    assert "<script" not in text
    assert "http://" not in text.replace("http://www.w3.org/", "")
    assert "https://" not in text


def test_the_token_is_readable_by_its_user_alone_and_never_an_argument(tmp_path: Path) -> None:
    token = explorer_token(tmp_path)
    assert explorer_token(tmp_path) == token
    assert stat.S_IMODE((tmp_path / "explorer-token").stat().st_mode) == 0o600
    command, environment = explorer_command(ROOT, tmp_path, "127.0.0.1", 2718, os.environ)
    assert token not in " ".join(command)
    assert token not in environment.values()


def test_commands_that_start_at_once_share_one_token(tmp_path: Path) -> None:
    for number in range(20):
        home = tmp_path / f"home-{number}"
        with ThreadPoolExecutor(8) as commands:
            tokens = set(commands.map(explorer_token, [home] * 8))
        assert tokens == {(home / "explorer-token").read_text()}
        assert all(tokens)
