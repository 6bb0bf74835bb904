"""Data files: encodings of columns, table properties, and rows that come back as they were written."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coinstream.lake.commit import append
from coinstream.lake.store import Lake
from coinstream.lake.warehouse import located, write_data_file
from tests.lake.conftest import lake_at

TIME = pa.timestamp("us", tz="UTC")
SCHEMA = pa.schema(
    [
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("partition", pa.int32()),
        pa.field("at", TIME),
        pa.field("price", pa.decimal128(38, 18)),
        pa.field("symbol", pa.string()),
        pa.field("value", pa.binary()),
        pa.field("rules", pa.list_(pa.string())),
    ]
)
START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Return a lake for all tests of the module; each has a table of its own."""
    return lake_at(tmp_path_factory.mktemp("data-files"))


def rows(count: int) -> pa.Table:
    numbers = list(range(count))
    return pa.table(
        {
            "offset": numbers,
            "partition": [n % 3 for n in numbers],
            "at": [START + timedelta(milliseconds=n * 7) for n in numbers],
            "price": [n % 100 for n in numbers],
            "symbol": [f"S{n % 10}" for n in numbers],
            "value": [b"x" * (n % 5) for n in numbers],
            "rules": [["a", "b"][: n % 3] for n in numbers],
        },
        schema=SCHEMA,
    )


def test_times_and_integers_are_written_as_differences(lake: Lake) -> None:
    table = lake.other("encodings", SCHEMA)
    file = write_data_file(table, rows(10_000), None)
    filesystem, path = located(table, file.file_path)
    metadata = pq.ParquetFile(path, filesystem=filesystem).metadata
    columns = [metadata.row_group(0).column(number) for number in range(metadata.num_columns)]
    deltas = {column.path_in_schema for column in columns if "DELTA_BINARY_PACKED" in column.encodings}
    assert deltas == {"offset", "partition", "at"}
    assert {column.compression for column in columns} == {"ZSTD"}
    assert file.record_count == 10_000
    assert file.file_size_in_bytes == filesystem.get_file_info(path).size < 10_000 * 6


def test_properties_of_the_table_are_kept(lake: Lake) -> None:
    table = lake.other("gzipped", SCHEMA)
    with table.transaction() as change:
        change.set_properties(
            {"write.parquet.compression-codec": "gzip", "write.parquet.row-group-limit": "1000"}
        )
    filesystem, path = located(table, write_data_file(table, rows(2_500), None).file_path)
    metadata = pq.ParquetFile(path, filesystem=filesystem).metadata
    assert (metadata.row_group(0).column(0).compression, metadata.num_row_groups) == ("GZIP", 3)


def test_missing_columns_are_null_and_required_ones_an_error(lake: Lake) -> None:
    table = lake.other("partial", SCHEMA)
    append(table, rows(5).select(["offset", "symbol"]), {})
    assert table.scan().to_arrow()["price"].null_count == 5
    with pytest.raises(pa.ArrowInvalid, match="offset"):
        append(table, rows(5).drop_columns(["offset"]), {})


whole = st.integers(-(2**63), 2**63 - 1)
times = st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31)).map(lambda at: at.replace(tzinfo=UTC))


@given(
    values=st.lists(
        st.tuples(whole, st.none() | st.integers(-(2**31), 2**31 - 1), st.none() | times), max_size=50
    )
)
def test_extreme_values_come_back(lake: Lake, values: list[tuple[int, int | None, datetime | None]]) -> None:
    columns = [[row[at] for row in values] for at in range(3)]
    written = pa.Table.from_arrays(
        [pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=False)],
        schema=pa.schema(list(SCHEMA)[:3]),
    )
    table = lake.other("extremes", SCHEMA)
    file = write_data_file(table, written, None)
    filesystem, path = located(table, file.file_path)
    found = pq.read_table(path, filesystem=filesystem, columns=["offset", "partition", "at"])
    assert found.to_pylist() == written.to_pylist()
