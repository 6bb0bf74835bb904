"""Test that the code location loads with the expected definitions."""

from __future__ import annotations

from graphlib import TopologicalSorter

import dagster as dg

from assets.topics import OWNERS
from definitions import defs


def test_every_definition_is_valid() -> None:
    dg.Definitions.validate_loadable(defs)


def test_every_asset_says_what_it_is_and_whose() -> None:
    for node in defs.resolve_asset_graph().asset_nodes:
        assert node.description, node.key
        assert node.owners == OWNERS, node.key
        assert node.kinds, node.key
        schema = node.metadata.get("dagster/column_schema")
        for column in schema.columns if isinstance(schema, dg.TableSchema) else ():
            assert column.description, (node.key, column.name)


def test_every_automation_and_job_says_what_it_does() -> None:
    repository = defs.get_repository_def()
    named: list[dg.ScheduleDefinition | dg.SensorDefinition | dg.JobDefinition] = [
        *repository.schedule_defs,
        *repository.sensor_defs,
        *repository.get_all_jobs(),
    ]
    silent = [one.name for one in named if not one.description and not one.name.startswith("__")]
    assert not silent


def test_the_groups_of_the_lineage_make_no_circle() -> None:
    graph = defs.resolve_asset_graph()
    group = {node.key: node.group_name for node in graph.asset_nodes}
    before: dict[str, set[str]] = {}
    for node in graph.asset_nodes:
        into = group[node.key]
        before.setdefault(into, set()).update({group[key] for key in node.parent_keys} - {into})
    assert list(TopologicalSorter(before).static_order())
