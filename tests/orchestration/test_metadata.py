"""Test how values are shown as Dagster metadata."""

import pytest

from assets.metadata import breakable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('{"a":1.10,"b":[1e-9,"x:y,z"]}', '{"a": 1.10, "b": [1e-9, "x:y,z"]}'),
        (r'{"say \"a,b\"":"2026-01-05T10:00:00Z"}', r'{"say \"a,b\"": "2026-01-05T10:00:00Z"}'),
        ('{"a": 1, "b": 2}', '{"a": 1, "b": 2}'),
        ("{not json", "{not json"),
    ],
)
def test_a_space_after_each_separator_lets_a_cell_wrap_and_changes_no_string(text: str, shown: str) -> None:
    assert breakable(text) == shown
