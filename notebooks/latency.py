# /// script
# [tool.marimo.display]
# theme = "system"
# ///
"""Show how late quotes arrive, by exchange. Open it with `marimo edit notebooks/latency.py`."""

import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="Latency")


@app.cell
def _():
    import marimo as mo
    import polars as pl

    from coinstream.lake.query import table

    return mo, pl, table


@app.cell
def _(mo, pl, table):
    latency = (
        table("level1", hours=24)
        .polars()
        .with_columns(
            receipt_ms=(pl.col("last_updated") - pl.col("timestamp")).dt.total_milliseconds(),
            landing_s=(pl.col("ingested_at") - pl.col("last_updated")).dt.total_milliseconds() / 1000,
        )
        .group_by(exchange="exchange_id")
        .agg(
            quotes=pl.len(),
            receipt_ms_p50=pl.col("receipt_ms").median(),
            receipt_ms_p99=pl.col("receipt_ms").quantile(0.99),
            landing_s_p50=pl.col("landing_s").median(),
            landing_s_p99=pl.col("landing_s").quantile(0.99),
        )
        .sort("exchange")
    )
    mo.vstack(
        [
            mo.md("# Latency\nFrom the exchange's time to the receipt, and from the receipt to the table."),
            latency,
        ]
    )
    return (latency,)


if __name__ == "__main__":
    app.run()
