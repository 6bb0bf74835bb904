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
    import os
    from decimal import Decimal

    import marimo as mo
    import polars as pl

    from coinstream.errors import CoinstreamError
    from coinstream.explore import monitoring, quotes, topic_browser
    from coinstream.lake import charts, statistics
    from coinstream.lake.store import Lake
    from coinstream.local_broker import require_broker
    from coinstream.messages import MESSAGE_TYPES
    from coinstream.settings import BrokerSettings, HomeSettings
    from coinstream.text import parse_time
    from coinstream.topics.catalogue import catalogue

    width = 900  # of a chart, in pixels
    return (
        BrokerSettings,
        CoinstreamError,
        Decimal,
        HomeSettings,
        Lake,
        MESSAGE_TYPES,
        catalogue,
        charts,
        mo,
        monitoring,
        os,
        parse_time,
        pl,
        quotes,
        require_broker,
        statistics,
        topic_browser,
        width,
    )


@app.cell
def _(
    BrokerSettings,
    CoinstreamError,
    Decimal,
    HomeSettings,
    Lake,
    catalogue,
    mo,
    monitoring,
    os,
    pl,
    require_broker,
    topic_browser,
):
    try:
        brokers = require_broker(BrokerSettings(), HomeSettings())
        topics = topic_browser.existing_topics(brokers)
    except CoinstreamError as _error:
        mo.stop(True, mo.callout(mo.md(f"**No broker.** {_error}"), kind="danger"))
    lake = Lake()
    history = monitoring.LagHistory(brokers)

    def shown(build):
        """Return what `build` draws, or its error as a callout."""
        try:
            return build()
        except (CoinstreamError, ValueError) as failed:
            return mo.callout(mo.md(f"{failed}"), kind="warn")

    def grid(frame, **options):
        """Return a table without types and summaries; times are to the millisecond, figures as short as exact."""
        times = [name for name, kind in frame.schema.items() if isinstance(kind, pl.Datetime)]
        figures = [name for name, kind in frame.schema.items() if kind.is_float()]
        readable = frame.with_columns(pl.col(times).dt.strftime("%Y-%m-%d %H:%M:%S%.3f")) if times else frame
        empty = [name for name in ("error",) if name in readable.columns and readable[name].is_null().all()]
        widths = options.pop("column_widths", {})
        return mo.ui.table(
            readable.drop(empty).rename({name: f"{name} (UTC)" for name in times}),
            selection=None,
            show_column_summaries=False,
            show_data_types=False,
            format_mapping=dict.fromkeys(figures, lambda figure: f"{Decimal(repr(figure)):,f}"),
            column_widths={f"{name} (UTC)" if name in times else name: size for name, size in widths.items()},
            **options,
        )

    def with_origin(frame):
        """Replace topic, partition and offset by `message`; the reason of a dead letter is in its error."""
        place = pl.format("{}[{}]@{}", "topic", "partition", "offset").alias("message")
        kept = [name for name in frame.columns if name not in {"topic", "partition", "offset"}]
        kept = [name for name in kept if not (name == "reason" and "error" in kept)]
        return frame.select(kept[0], place, *kept[1:])

    web_ui = os.environ.get("COINSTREAM_UI_URL", "").rstrip("/")
    known_topics = {spec.name for spec in catalogue(HomeSettings().exchange_topics)}

    def asset_link(*key):
        """Return a link to the page of an asset in the web UI, if both exist."""
        exists = web_ui and (key[0] != "topics" or key[-1] in known_topics)
        return mo.md(f"[asset in the web UI]({web_ui}/assets/{'/'.join(key)})" if exists else "")

    return asset_link, brokers, grid, history, lake, shown, topics, web_ui, with_origin


@app.cell
def _(brokers, mo, topics, web_ui):
    # Links from the web UI choose page, topic and type.
    wanted = mo.query_params()
    _pages = ("Messages", "Quotes", "Candles", "Lag and rates", "Exchanges", "Dead letters", "Quarantine")
    page = mo.ui.tabs(
        dict.fromkeys(_pages, ""), value=wanted["page"] if wanted.get("page") in _pages else _pages[0]
    )
    refresh = mo.ui.refresh(options=["2s", "5s", "30s"], default_interval="5s", label="refresh")
    mo.vstack(
        [
            mo.hstack(
                [
                    mo.md("# coinstream explorer"),
                    mo.hstack(
                        [
                            mo.md(
                                f"`{brokers.brokers}` · {len(topics)} topics"
                                + (f" · [web UI]({web_ui})" if web_ui else "")
                            ),
                            refresh,
                        ],
                        gap=2,
                        align="center",
                        wrap=True,
                    ),
                ],
                align="center",
                wrap=True,
            ),
            page,
        ]
    )
    return page, refresh, wanted


@app.cell
def _(CoinstreamError, brokers, mo, topic_browser, topics, wanted):
    _linked = wanted.get("topic")

    def _fullest():
        try:
            return topic_browser.fullest_topic(brokers, topics)
        except CoinstreamError:
            return next(iter(topics), None)  # the page then shows why its records cannot be read

    _default = _linked if _linked in topics else _fullest()
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
    asset_link,
    brokers,
    grid,
    key_text,
    limit,
    mo,
    offset,
    page,
    parse_time,
    partition,
    shown,
    start,
    topic,
    topic_browser,
    value_text,
):
    mo.stop(page.value != "Messages")

    def _whole(text, name):
        if not text.strip().isdecimal():
            raise ValueError(f'invalid {name} "{text}"; expected digits')
        return int(text)

    def _draw():
        wanted = topic_browser.RecordFilter(
            key=key_text.value,
            value=value_text.value,
            partitions=tuple(_whole(one, "partition") for one in partition.value.replace(",", " ").split()),
            since=parse_time(start.value) if start.value.strip() else None,
            offset=_whole(offset.value, "offset") if offset.value.strip() else None,
        )
        found = topic_browser.browse(brokers, topic.value, wanted, int(limit.value))
        order = (
            "from the start that you chose" if wanted.since or wanted.offset is not None else "newest first"
        )
        more = "" if found.complete else "; the topic holds more: narrow the filter or raise the limit"
        return mo.vstack(
            [
                mo.md(f"{found.records.height:,} records, {order}; {found.scanned:,} read{more}"),
                grid(
                    found.records,
                    page_size=20,
                    wrapped_columns=["value"],
                    column_widths={"partition": 80, "offset": 90, "time": 180, "key": 170, "value": 520},
                ),
            ]
        )

    mo.vstack(
        [
            mo.hstack(
                [
                    *(topic, key_text, value_text, start, partition, offset, limit),
                    asset_link("topics", topic.value or ""),
                ],
                wrap=True,
                justify="start",
                align="center",
            ),
            shown(_draw) if topic.value else mo.md("The cluster has no topics yet."),
        ]
    )
    return


@app.cell
def _(width, brokers, charts, grid, mo, page, quotes, refresh, shown):
    mo.stop(page.value != "Quotes")
    refresh

    def _draw():
        sample = quotes.sample_quotes(brokers)
        if sample.is_empty():
            return mo.md("No quotes yet: start a feed, for example `coinstream feed run binance`.")
        drawn = quotes.most_quoted(sample)
        return mo.vstack(
            [
                grid(quotes.latest_of(sample), page_size=15),
                charts.over_time(drawn, "middle", "market", "Mid price", "quote currency", width=width),
                charts.over_time(drawn, "spread_bp", "market", "Spread", "basis points", width=width),
            ]
        )

    shown(_draw)
    return


@app.cell
def _(lake, mo, quotes, shown):
    def _markets():
        found = quotes.candle_markets(lake)
        return {f"{row['exchange']} {row['symbol']}": row for row in found.iter_rows(named=True)}

    _found = shown(_markets)
    markets, unreadable = (_found, None) if isinstance(_found, dict) else ({}, _found)
    market = mo.ui.dropdown(list(markets), value=next(iter(markets), None), label="market", searchable=True)
    span = mo.ui.dropdown({"1 hour": 1.0, "6 hours": 6.0, "1 day": 24.0}, value="6 hours", label="newest")
    timeframe = mo.ui.dropdown(
        {"1 minute": "1m", "5 minutes": "5m", "1 hour": "1h"}, value="1 minute", label="candle"
    )
    return market, markets, span, timeframe, unreadable


@app.cell
def _(width, charts, lake, market, markets, mo, page, quotes, shown, span, timeframe, unreadable):
    mo.stop(page.value != "Candles")

    def _draw():
        if unreadable is not None:
            return unreadable
        if market.value is None:
            return mo.md("No candles yet: `coinstream lake land`, then `coinstream lake candles`.")
        chosen = markets[market.value]
        frame = quotes.candles(
            lake, chosen["symbol"], chosen["exchange"], hours=span.value, timeframe=timeframe.value
        )
        minutes = {"1m": 1, "5m": 5, "1h": 60}[timeframe.value]
        return charts.candlestick_chart(frame, market.value, minutes=minutes, width=width)

    mo.vstack([mo.hstack([market, timeframe, span], justify="start"), shown(_draw)])
    return


@app.cell
def _(history, refresh, shown):
    # On every page, so that the charts have a past when theirs is opened.
    refresh
    not_sampled = shown(history.sample)
    sampled = history.lag.height
    return not_sampled, sampled


@app.cell
def _(charts, grid, history, mo, not_sampled, page, pl, sampled, shown, width):
    mo.stop(page.value != "Lag and rates")
    sampled

    def _draw():
        lag, rates = history.lag, history.busiest()
        newest = lag.filter(lag["time"] == lag["time"].max()) if lag.height else lag
        return mo.vstack(
            [
                *([] if not_sampled is None else [not_sampled]),
                grid(
                    newest.with_columns(pl.col("seconds").round(1)),
                    wrapped_columns=["reason"],
                    column_widths={"messages": 90, "seconds": 90, "status": 80, "reason": 420},
                ),
                mo.md(
                    "Sampled while the explorer is open; Prometheus and Grafana keep the past (`deploy/`)."
                ),
                charts.over_time(lag, "messages", "group", "Lag", "messages", width=width),
                charts.over_time(rates, "messages_per_s", "topic", "Rate", "messages/s", width=width),
            ]
        )

    shown(_draw)
    return


@app.cell
def _(width, brokers, charts, grid, lake, mo, page, quotes, shown, statistics):
    mo.stop(page.value != "Exchanges")

    def _draw():
        found = statistics.exchange_statistics(lake)
        if not found:
            return mo.md("No landed quotes yet: `coinstream lake land`.")
        stale = quotes.staleness(quotes.sample_quotes(brokers))
        compared = quotes.rounded(found).join(stale, on="exchange", how="left")
        return mo.vstack(
            [
                grid(compared, column_widths=dict.fromkeys(compared.columns, 110)),
                mo.md(
                    "Spread in basis points; `receipt`: exchange to receipt; `landing`: receipt to table; "
                    "`stale_s`: seconds since the newest quote in the topics."
                ),
                charts.line_chart("Exchange to receipt", "ms", statistics.latency_series(lake), width=width),
                charts.line_chart("Spread", "basis points", statistics.spread_series(lake), width=width),
                charts.line_chart("Receipt to table", "s", statistics.lag_series(lake), width=width),
            ]
        )

    shown(_draw)
    return


@app.cell
def _(mo, topics, wanted):
    _queues = [name for name in topics if name.endswith(".dlq")]
    _chosen = wanted.get("topic") if wanted.get("topic") in _queues else "crypto-level1.dlq"
    queue = mo.ui.dropdown(
        _queues,
        value=_chosen if _chosen in _queues else next(iter(_queues), None),
        label="dead-letter topic",
        searchable=True,
    )
    error_text = mo.ui.text(label="error contains", debounce=True)
    confirmed = mo.ui.checkbox(label="yes, send them to their topic again")
    return confirmed, error_text, queue


@app.cell
def _(confirmed, mo):
    replay = mo.ui.run_button(label="replay open dead letters", kind="warn", disabled=not confirmed.value)
    return (replay,)


@app.cell
def _(
    asset_link, brokers, confirmed, error_text, grid, mo, monitoring, page, queue, replay, shown, with_origin
):
    mo.stop(page.value != "Dead letters")

    def _draw():
        if queue.value is None:
            return mo.md("The cluster has no dead-letter topic.")
        done = []
        if replay.value and confirmed.value:
            told = monitoring.replay_dead_letters(brokers, queue.value, error_text.value)
            done = [mo.callout(mo.md(told), kind="success")]
        entries, reasons = monitoring.dead_letters(brokers, queue.value)
        if entries.is_empty():
            return mo.vstack([*done, mo.md(f"No dead letters yet: `{queue.value}` is empty.")])
        return mo.vstack(
            [
                *done,
                grid(reasons),
                mo.md(f"{entries.height:,} newest dead letters"),
                grid(
                    with_origin(entries),
                    page_size=20,
                    wrapped_columns=["error", "value"],
                    column_widths={
                        **{"failed_at": 180, "message": 170, "key": 140, "error": 230},
                        **{"attempts": 80, "replayed": 80, "value": 240},
                    },
                ),
            ]
        )

    mo.vstack(
        [
            mo.hstack(
                [queue, error_text, confirmed, replay, asset_link("topics", queue.value or "")],
                justify="start",
                align="center",
                wrap=True,
            ),
            shown(_draw),
        ]
    )
    return


@app.cell
def _(MESSAGE_TYPES, mo, wanted):
    _chosen = wanted.get("type") if wanted.get("type") in MESSAGE_TYPES else "level1"
    kind = mo.ui.dropdown(list(MESSAGE_TYPES), value=_chosen, label="type")
    reason_text = mo.ui.text(label="reason contains", debounce=True)
    check_again = mo.ui.run_button(label="check again (changes nothing)")
    agreed = mo.ui.checkbox(label="yes, land those that pass")
    return agreed, check_again, kind, reason_text


@app.cell
def _(agreed, mo):
    land_again = mo.ui.run_button(label="land refused messages", kind="warn", disabled=not agreed.value)
    return (land_again,)


@app.cell
def _(
    agreed,
    asset_link,
    check_again,
    grid,
    kind,
    lake,
    land_again,
    mo,
    monitoring,
    page,
    reason_text,
    shown,
    with_origin,
):
    mo.stop(page.value != "Quarantine")

    def _replayed():
        if not (check_again.value or (land_again.value and agreed.value)):
            return []
        told = monitoring.replay_refused(
            lake, kind.value, reason_text.value, dry_run=not (land_again.value and agreed.value)
        )
        return [mo.callout(mo.md(told), kind="success")]

    def _draw():
        done = _replayed()
        rows, reasons = monitoring.quarantined(lake)
        if rows.is_empty():
            return mo.vstack([*done, mo.md("The quarantine is empty: no landed message was refused.")])
        return mo.vstack(
            [
                *done,
                grid(reasons, wrapped_columns=["reason"], column_widths={"reason": 520}),
                mo.md(f"{rows.height:,} newest refused messages"),
                grid(
                    with_origin(rows),
                    page_size=20,
                    wrapped_columns=["reason", "value"],
                    column_widths={
                        **{"ingested_at": 180, "type": 70, "message": 170, "reason": 240},
                        **{"stored": 70, "value": 360},
                    },
                ),
            ]
        )

    mo.vstack(
        [
            mo.hstack(
                [
                    *(kind, reason_text, check_again, agreed, land_again),
                    asset_link("quarantine", kind.value),
                ],
                justify="start",
                align="center",
                wrap=True,
            ),
            shown(_draw),
        ]
    )
    return


if __name__ == "__main__":
    app.run()
