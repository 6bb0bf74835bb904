"""Build candles from landed quotes, prices and trades and produce them to crypto-ohlcv."""

from typing import TYPE_CHECKING, Any

import dagster as dg

from assets.lake import table_key
from assets.landing_run import pool_of
from assets.metadata import MEANINGS
from assets.topics import CANDLES_GROUP, CANDLES_KEY, OWNERS, STREAM
from coinstream.lake.schemas import CANDLE_SCHEMA
from resources.admin import AdminResource
from resources.client import RedpandaResource
from resources.lake import LakeResource

if TYPE_CHECKING:
    from coinstream.lake.statistics import ExchangeStatistics


@dg.asset(
    key=CANDLES_KEY,
    deps=[table_key("level1"), table_key("price"), table_key("trade")],
    group_name=CANDLES_GROUP,
    kinds={"polars", "iceberg", "redpanda"},
    owners=OWNERS,
    pool=pool_of("candles"),
    tags={"system": "lake"},
    metadata={
        "dagster/column_schema": dg.TableSchema(
            [dg.TableColumn(field.name, str(field.type), MEANINGS.get(field.name)) for field in CANDLE_SCHEMA]
        ),
        "dagster/table_name": "market.candles",
    },
)
def candles(admin: AdminResource, client: RedpandaResource, lake: LakeResource) -> dg.MaterializeResult[None]:
    """Build candles of 1 m, 5 m and 1 h from new rows, and produce each after its end.

    A candle with late messages is produced again. The exchange names end in `-quotes`, `-prices` and
    `-trades`, which distinguishes these candles from those published by exchanges. Candles of trades have
    volume, count, VWAP and the volume bought by takers.
    """
    from coinstream.expectations.validator import ExpectationValidator
    from coinstream.lake import statistics
    from coinstream.lake.candles import build_candles
    from coinstream.lake.engines import open_engine

    opened = lake.open()
    with (
        open_engine(opened.settings, admin.settings(), ExpectationValidator) as engine,
        client.open() as redpanda,
    ):
        report = build_candles(opened, redpanda, engine)
        exchanges = statistics.exchange_statistics(opened, engine=engine)
    return dg.MaterializeResult(
        data_version=STREAM,
        metadata={
            "engine": opened.settings.engine,
            "new_rows": report.rows,
            "computed": report.windows,
            "produced": report.produced,
            "revised": report.revised,
            "open": report.open,
            "exchanges": _exchanges(exchanges),
            "dagster/column_lineage": _lineage(),
        },
    )


def _lineage() -> dg.TableColumnLineage:
    ticks = [
        dg.TableColumnDep(table_key("level1"), "best_bid"),
        dg.TableColumnDep(table_key("level1"), "best_ask"),
        dg.TableColumnDep(table_key("price"), "usd_price"),
        dg.TableColumnDep(table_key("trade"), "trade_price"),
    ]
    times = [
        dg.TableColumnDep(table_key("level1"), "timestamp"),
        dg.TableColumnDep(table_key("price"), "last_updated"),
        dg.TableColumnDep(table_key("trade"), "timestamp"),
    ]
    size = [dg.TableColumnDep(table_key("trade"), "size")]
    volumes = dict.fromkeys(("volume", "taker_buy_volume"), size)
    prices = {f"{name}_price": ticks for name in ("open", "high", "low", "close")}
    return dg.TableColumnLineage({**prices, **volumes, "open_time": times, "close_time": times})


def _exchanges(found: "list[ExchangeStatistics]") -> dg.MetadataValue:
    records = [dg.TableRecord(_plain(one)) for one in found]
    return (
        dg.MetadataValue.table(records)
        if records
        else dg.MetadataValue.md("There are no rows to build candles from yet.")
    )


def _plain(one: "ExchangeStatistics") -> dict[str, Any]:
    return {
        name: round(value, 3) if isinstance(value, float) else value
        for name in one.__dataclass_fields__
        for value in (getattr(one, name),)
    }


build_candles_job = dg.define_asset_job(
    "build_candles",
    selection=dg.AssetSelection.assets(candles),
    description="Update the candles from the tables and produce them to crypto-ohlcv.",
    tags={"system": "lake"},
)
candles_schedule = dg.ScheduleDefinition(
    job=build_candles_job,
    cron_schedule="2-59/5 * * * *",
    name="candles_schedule",
    description="Build candles every five minutes, after landing.",
    tags={"system": "lake"},
)

defs = dg.Definitions(assets=[candles], jobs=[build_candles_job], schedules=[candles_schedule])
