# /// script
# [tool.marimo.display]
# theme = "system"
# ///
"""Explore topics, quotes, candles, lag and dead letters. Run `coinstream explore`, or `marimo edit` it."""

import marimo

__generated_with = "0.25.2"
app = marimo.App(width="full", app_title="coinstream explorer")


@app.cell
def _():
    from datetime import UTC, datetime, timedelta

    import marimo as mo

    from coinstream.brokers import require_broker
    from coinstream.errors import CoinstreamError
    from coinstream.explore import dead_letters, lag_history, quotes, topic_browser
    from coinstream.lake import charts, statistics
    from coinstream.lake.store import Lake
    from coinstream.settings import BrokerSettings, HomeSettings

    return (
        BrokerSettings,
        CoinstreamError,
        HomeSettings,
        Lake,
        UTC,
        charts,
        datetime,
        dead_letters,
        lag_history,
        mo,
        quotes,
        require_broker,
        statistics,
        timedelta,
        topic_browser,
    )


@app.cell
def _(BrokerSettings, CoinstreamError, HomeSettings, Lake, lag_history, mo, require_broker, topic_browser):
    try:
        brokers = require_broker(BrokerSettings(), HomeSettings())
        topics = topic_browser.topic_names(brokers)
    except CoinstreamError as _error:
        mo.stop(True, mo.callout(mo.md(f"**No broker.** {_error}"), kind="danger"))
    lake = Lake()
    history = lag_history.LagHistory(brokers)

    def shown(build):
        """Return what `build` draws, or its error as a callout."""
        try:
            return build()
        except CoinstreamError as failed:
            return mo.callout(mo.md(f"{failed}"), kind="warn")

    return brokers, history, lake, shown, topics


@app.cell
def _(brokers, mo, topics):
    page = mo.ui.tabs(
        dict.fromkeys(
            ("Messages", "Quotes", "Candles", "Lag and rates", "Exchanges", "Dead letters", "Quarantine"), ""
        )
    )
    refresh = mo.ui.refresh(options=["2s", "5s", "30s"], default_interval="5s", label="refresh")
    mo.vstack(
        [
            mo.hstack(
                [mo.md(f"# coinstream explorer\n`{brokers.brokers}` · {len(topics)} topics"), refresh],
                align="center",
            ),
            page,
        ]
    )
    return page, refresh


@app.cell
def _(brokers, mo, topic_browser, topics):
    _default = topic_browser.fullest_topic(brokers, topics)
    topic = mo.ui.dropdown(topics, value=_default, label="topic", searchable=True)
    key_text = mo.ui.text(label="key contains", debounce=True)
    value_text = mo.ui.text(label="value contains", debounce=True)
    start = mo.ui.text(label="from time (UTC)", placeholder="2026-01-05T10:00Z", debounce=True)
    partition = mo.ui.text(label="partition", placeholder="all", debounce=True)
    offset = mo.ui.text(label="from offset", debounce=True)
    limit = mo.ui.number(10, 5_000, value=200, label="at most")
    return key_text, limit, offset, partition, start, topic, value_text


@app.cell
def _(
    UTC,
    brokers,
    datetime,
    key_text,
    limit,
    mo,
    offset,
    page,
    partition,
    shown,
    start,
    topic,
    topic_browser,
    value_text,
):
    mo.stop(page.value != "Messages")

    def _time(text):
        if not text.strip():
            return None
        found = datetime.fromisoformat(text.strip())
        return found if found.tzinfo else found.replace(tzinfo=UTC)

    def _draw():
        try:
            wanted = topic_browser.RecordFilter(
                key=key_text.value,
                value=value_text.value,
                partitions=tuple(int(part) for part in partition.value.replace(",", " ").split()),
                since=_time(start.value),
                offset=int(offset.value) if offset.value.strip() else None,
            )
        except ValueError as wrong:
            return mo.callout(
                mo.md(f"{wrong}; write a time like `2026-01-05T10:00Z`, numbers in digits"), kind="warn"
            )
        found = topic_browser.browse(brokers, topic.value, wanted, int(limit.value))
        more = "" if found.complete else "; there may be more: narrow the filter or raise the limit"
        return mo.vstack(
            [
                mo.md(f"{found.records.height:,} records of {found.scanned:,} read{more}"),
                mo.ui.table(
                    found.records,
                    page_size=20,
                    selection=None,
                    show_column_summaries=False,
                    wrapped_columns=["value"],
                ),
            ]
        )

    mo.vstack(
        [
            mo.hstack(
                [topic, key_text, value_text, start, partition, offset, limit], wrap=True, justify="start"
            ),
            shown(_draw) if topic.value else mo.md("The cluster has no topics yet."),
        ]
    )
    return


@app.cell
def _(brokers, mo, page, quotes, refresh, shown):
    mo.stop(page.value != "Quotes")
    refresh

    def _draw():
        latest = quotes.latest_quotes(brokers)
        if latest.is_empty():
            return mo.md("No quotes yet: start a feed, for example `coinstream feed run binance`.")
        return mo.ui.table(latest, page_size=25, selection=None, show_column_summaries=False)

    shown(_draw)
    return


@app.cell
def _(lake, mo, quotes, shown):
    def _markets():
        found = quotes.candle_markets(lake)
        return {f"{row['exchange']} {row['symbol']}": row for row in found.iter_rows(named=True)}

    _found = shown(_markets)
    markets = _found if isinstance(_found, dict) else {}
    market = mo.ui.dropdown(list(markets), value=next(iter(markets), None), label="market", searchable=True)
    span = mo.ui.dropdown({"1 hour": 1.0, "6 hours": 6.0, "1 day": 24.0}, value="6 hours", label="newest")
    return market, markets, span


@app.cell
def _(charts, lake, market, markets, mo, page, quotes, shown, span):
    mo.stop(page.value != "Candles")

    def _draw():
        if market.value is None:
            return mo.md("No candles yet: `coinstream lake land`, then `coinstream lake candles`.")
        chosen = markets[market.value]
        frame = quotes.candles(lake, chosen["symbol"], chosen["exchange"], hours=span.value)
        return charts.candlestick_chart(frame, market.value)

    mo.vstack([mo.hstack([market, span], justify="start"), shown(_draw)])
    return


@app.cell
def _(charts, history, mo, page, refresh, shown):
    mo.stop(page.value != "Lag and rates")
    refresh

    def _draw():
        history.sample()
        lag, rates = history.lag, history.rates
        newest = lag.filter(lag["time"] == lag["time"].max()) if lag.height else lag
        return mo.vstack(
            [
                mo.ui.table(newest, selection=None),
                mo.md("Sampled while this page is open; Prometheus and Grafana keep the past (`deploy/`)."),
                charts.over_time(lag, "messages", "group", "Lag", "messages"),
                charts.over_time(rates, "messages_per_s", "topic", "Rate", "messages/s"),
            ]
        )

    shown(_draw)
    return


@app.cell
def _(charts, lake, mo, page, quotes, shown, statistics):
    mo.stop(page.value != "Exchanges")

    def _draw():
        found = statistics.exchange_statistics(lake)
        if not found:
            return mo.md("No landed quotes yet: `coinstream lake land`.")
        return mo.vstack(
            [
                mo.ui.table(quotes.rounded(found), selection=None, show_column_summaries=False),
                charts.line_chart("Exchange to receipt", "ms", statistics.latency_series(lake)),
                charts.line_chart("Spread", "basis points", statistics.spread_series(lake)),
                charts.line_chart("Receipt to table", "s", statistics.lag_series(lake)),
            ]
        )

    shown(_draw)
    return


@app.cell
def _(mo, topics):
    _queues = [name for name in topics if name.endswith(".dlq")]
    queue = mo.ui.dropdown(
        _queues,
        value="crypto-level1.dlq" if "crypto-level1.dlq" in _queues else next(iter(_queues), None),
        label="dead-letter topic",
        searchable=True,
    )
    confirmed = mo.ui.checkbox(label="yes, send them to their topic again")
    replay = mo.ui.run_button(label="replay all open dead letters", kind="warn")
    return confirmed, queue, replay


@app.cell
def _(brokers, confirmed, dead_letters, mo, page, queue, replay, shown):
    mo.stop(page.value != "Dead letters")

    def _draw():
        if queue.value is None:
            return mo.md("The cluster has no dead-letter topic.")
        done = None
        if replay.value:
            done = (
                dead_letters.replay_all(brokers, queue.value)
                if confirmed.value
                else "Nothing was sent: tick the box to confirm."
            )
        entries, reasons = dead_letters.entries(brokers, queue.value)
        parts = [
            mo.md(f"{entries.height:,} newest dead letters"),
            mo.ui.table(reasons, selection=None),
            mo.ui.table(entries, page_size=20, selection=None, wrapped_columns=["error", "value"]),
        ]
        return mo.vstack([mo.callout(mo.md(done), kind="info"), *parts] if done else parts)

    mo.vstack([mo.hstack([queue, confirmed, replay], justify="start"), shown(_draw)])
    return


@app.cell
def _(dead_letters, lake, mo, page, shown):
    mo.stop(page.value != "Quarantine")

    def _draw():
        rows, reasons = dead_letters.quarantined(lake)
        if rows.is_empty():
            return mo.md("The quarantine is empty: every landed row met the rules.")
        return mo.vstack(
            [
                mo.ui.table(reasons, selection=None),
                mo.ui.table(rows, page_size=20, selection=None, wrapped_columns=["reason", "value"]),
                mo.md("To land fixed messages again, replay them: `coinstream replay --help`."),
            ]
        )

    shown(_draw)
    return


if __name__ == "__main__":
    app.run()
