"""Internal names of dependencies: each is listed and exists, and its package is pinned."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import tomllib
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parent.parent
PRODUCT: Final = ("platform", "assets", "sensors", "resources", "definitions.py")

DAGSTER: Final[dict[str, set[str]]] = {
    "sensors/cleanup.py": {
        "dagster._core.storage.event_log.schema.SqlEventLogStorageTable",
        "dagster._core.storage.event_log.sql_event_log.SqlEventLogStorage",
    },
    "sensors/feeds.py": {"dagster._core.storage.tags.GRPC_INFO_TAG"},
    "sensors/failures.py": {
        "dagster._core.scheduler.instigation.InstigatorState",
        "dagster._core.scheduler.instigation.TickStatus",
    },
    "resources/webserver.py": {
        "dagster._core.workspace.context.WorkspaceProcessContext",
        "dagster._core.workspace.load_target.WorkspaceFileTarget",
        "dagster_webserver.app.create_app_from_workspace_process_context",
    },
    "resources/run_launcher.py": {
        "dagster._core.errors.DagsterUserCodeUnreachableError",
        "dagster._core.launcher.DefaultRunLauncher",
        "dagster._core.launcher.base.CheckRunHealthResult",
        "dagster._core.launcher.base.WorkerStatus",
        "dagster._core.storage.tags.GRPC_INFO_TAG",
        "dagster._grpc.client.DagsterGrpcClient",
        "dagster._grpc.types.CanCancelExecutionRequest",
        "dagster._grpc.types.CanCancelExecutionResult",
        "dagster._serdes.deserialize_value",
    },
}
"""Dagster has no public call for old observations, ticks, the process of a run, or a middleware of its UI."""

PYICEBERG: Final[dict[str, set[str]]] = {
    "platform/coinstream/lake/warehouse.py": {
        "pyiceberg.io.pyarrow.ParquetFormatWriter",
        "pyiceberg.io.pyarrow.parquet_path_to_id_mapping",
        "pyiceberg.io.pyarrow.schema_to_pyarrow",
    },
}
"""pyiceberg's public `append` writes and commits at once, and chooses no encodings."""

UNDOCUMENTED: Final = {name for names in PYICEBERG.values() for name in names}
PINS: Final = {
    "dagster": r"==\d+\.\d+\.\d+",
    "dagster-webserver": r"==\d+\.\d+\.\d+",
    "pyiceberg": r"==\d+\.\d+\.\*",
}
"""Dagster changes its internals in any release, pyiceberg in minor ones."""

SIGNATURES: Final = {
    "pyiceberg.io.pyarrow.ParquetFormatWriter": ["output_file", "file_schema", "properties"],
    "pyiceberg.io.pyarrow.parquet_path_to_id_mapping": ["schema"],
    "pyiceberg.io.pyarrow.schema_to_pyarrow": ["schema"],
    "dagster_webserver.app.create_app_from_workspace_process_context": ["workspace_process_context"],
}


def files() -> list[Path]:
    found = [ROOT / name for name in PRODUCT]
    return [file for path in found for file in ([path] if path.is_file() else sorted(path.rglob("*.py")))]


def imported(file: Path) -> set[str]:
    """Return every name that the module imports from another, with the module's name in front."""
    nodes = list(ast.walk(ast.parse(file.read_text())))
    names = {
        f"{node.module}.{alias.name}"
        for node in nodes
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    return names | {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}


def is_internal(name: str) -> bool:
    return name in UNDOCUMENTED or bool(re.match(r"(dagster|pyiceberg)\w*(\.\w+)*\._[a-z]", name + "."))


def internals() -> dict[str, set[str]]:
    """Return the listed names of each file that are internal; some listed ones are public."""
    tables = {file: set(filter(is_internal, names)) for file, names in (DAGSTER | PYICEBERG).items()}
    return {file: names for file, names in tables.items() if names}


def find(name: str) -> object:
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def test_only_listed_internals_are_imported() -> None:
    used = {
        file.relative_to(ROOT).as_posix(): names
        for file in files()
        if (names := {name for name in imported(file) if is_internal(name)})
    }
    assert used == internals(), "list it in this module, or use public names"


def test_listed_internals_are_used() -> None:
    for file, names in (DAGSTER | PYICEBERG).items():
        assert names <= imported(ROOT / file), file


@pytest.mark.parametrize("name", sorted({name for names in (DAGSTER | PYICEBERG).values() for name in names}))
def test_an_internal_is_where_it_was(name: str) -> None:
    found = find(name)
    if name in SIGNATURES:
        parameters = list(inspect.signature(found).parameters)  # type: ignore[arg-type]
        assert parameters[: len(SIGNATURES[name])] == SIGNATURES[name]


def test_the_tables_of_dagster_have_the_columns_that_cleaning_reads() -> None:
    from dagster._core.storage.event_log.schema import SqlEventLogStorageTable

    assert {"run_id", "dagster_event_type", "timestamp"} <= set(SqlEventLogStorageTable.columns.keys())


def test_packages_with_used_internals_are_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pins = {re.split(r"[\[=<>]", text)[0]: text for text in project["dependencies"]}
    for name, pin in PINS.items():
        assert re.search(pin + "$", pins[name]), f"pin {name} tightly: {pins[name]}"
