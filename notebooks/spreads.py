# /// script
# [tool.marimo.display]
# theme = "system"
# ///
"""Compare the spreads of the markets in the tables. Open it with `marimo edit notebooks/spreads.py`."""

import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="Spreads")


@app.cell
def _():
    import marimo as mo

    from coinstream.lake.query import sql

    return mo, sql


@app.cell
def _(mo, sql):
    spreads = sql(
        """
        SELECT exchange_id AS exchange, symbol, count(*) AS quotes,
            median((best_ask - best_bid) / ((best_ask + best_bid) / 2) * 10000) AS spread_bp
        FROM level1 GROUP BY ALL ORDER BY spread_bp
        """
    ).polars()
    mo.vstack([mo.md("# Spreads\nMedian spread of each market, in basis points of the middle."), spreads])
    return (spreads,)


@app.cell
def _(spreads):
    import altair as alt

    alt.Chart(spreads).mark_bar().encode(
        x=alt.X("spread_bp:Q", title="spread (basis points)"),
        y=alt.Y("symbol:N", sort="x", title=None),
        color="exchange:N",
    )
    return


if __name__ == "__main__":
    app.run()
