"""The structure of the code: sizes, one definition per name, and imports that run one way."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parent.parent.parent
SOURCES: Final = ("platform/coinstream", "assets", "sensors", "resources", "definitions.py")
MAX_MODULE_LINES: Final = 300
MAX_FUNCTION_LINES: Final = 50
MAX_LIBRARY_MODULES: Final = 170
"""Modules of the library without the adapters, of which there is at least one per exchange."""

LAYERS: Final = (
    {"errors", "messages", "settings", "text", "files", "backoff"},
    {"kafka", "routing", "serialization", "topics", "local_broker"},
    {"producer", "consumer", "dlq", "monitoring"},
    {"feeds", "lake", "expectations"},
    {"client"},
    {"sinks", "cli", "explore", "stack"},
)
"""Packages of the library from the lowest layer to the highest. A package imports none of a higher layer."""
CODE_LOCATION: Final = {"assets": 1, "sensors": 1, "resources": 1, "definitions": 2}


def files() -> list[Path]:
    roots = [ROOT / name for name in SOURCES]
    return sorted(file for root in roots for file in ([root] if root.is_file() else root.rglob("*.py")))


def module_of(file: Path) -> str:
    path = file.relative_to(ROOT)
    parts = path.with_suffix("").parts[1 if path.parts[0] == "platform" else 0 :]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES: Final = {module_of(file): file for file in files()}
TREES: Final = {name: ast.parse(file.read_text()) for name, file in MODULES.items()}


def is_typing_only(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def imports_in(node: ast.AST, *, lazy: bool) -> Iterator[str]:
    """Yield the modules of this repository that a module imports."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ImportFrom) and child.module:
            for alias in child.names:
                whole = f"{child.module}.{alias.name}"
                if whole in MODULES or child.module in MODULES:
                    yield whole if whole in MODULES else child.module
        elif isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names if alias.name in MODULES)
        elif is_typing_only(child) or (
            not lazy and isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef))
        ):
            continue
        yield from imports_in(child, lazy=lazy)


def graph(*, lazy: bool) -> dict[str, set[str]]:
    return {name: set(imports_in(tree, lazy=lazy)) - {name} for name, tree in TREES.items()}


def cycles(edges: dict[str, set[str]]) -> list[list[str]]:
    """Return the groups of modules that import each other (Tarjan's algorithm)."""
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        number[name] = low[name] = len(number)
        stack.append(name)
        for other in sorted(edges.get(name, ())):
            if other not in number:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], number[other])
        if low[name] == number[name]:
            at = stack.index(name)
            group = stack[at:]
            del stack[at:]
            if len(group) > 1:
                found.append(sorted(group))

    for name in sorted(edges):
        if name not in number:
            visit(name)
    return found


def layer_of(module: str) -> int | None:
    head, _, rest = module.partition(".")
    if head != "coinstream":
        return len(LAYERS) - 1 + CODE_LOCATION[head]
    package = rest.partition(".")[0]
    return next((level for level, names in enumerate(LAYERS) if package in names), None)


def test_a_cycle_is_found() -> None:
    assert cycles({"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": set()}) == [["a", "b", "c"]]


def test_no_module_is_longer_than_the_limit() -> None:
    lengths = {name: len(file.read_text().splitlines()) for name, file in MODULES.items()}
    assert {name: lines for name, lines in lengths.items() if lines > MAX_MODULE_LINES} == {}


def test_the_library_has_no_more_modules_than_the_limit() -> None:
    adapters = "coinstream.feeds.exchanges"
    library = {name for name in MODULES if name.startswith("coinstream")}
    others = {name for name in library if name != adapters and not name.startswith(f"{adapters}.")}
    assert len(others) <= MAX_LIBRARY_MODULES


def test_no_function_is_longer_than_the_limit() -> None:
    lengths = {
        f"{name}.{node.name}": (node.end_lineno or 0) - node.lineno + 1
        for name, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    }
    assert {name: lines for name, lines in lengths.items() if lines > MAX_FUNCTION_LINES} == {}


@pytest.mark.parametrize("lazy", [False, True], ids=["at import", "inside functions too"])
def test_no_modules_import_each_other(lazy: bool) -> None:
    assert cycles(graph(lazy=lazy)) == []


def test_every_module_is_in_a_layer() -> None:
    packages = {name.split(".")[1] for name in MODULES if name.startswith("coinstream.")}
    assert packages - {"__main__"} == set().union(*LAYERS)


def test_imports_between_packages_run_one_way() -> None:
    upward = {
        f"{name} -> {other}"
        for name, others in graph(lazy=True).items()
        for other in others
        if (mine := layer_of(name)) is not None and (its := layer_of(other)) is not None and mine < its
    }
    assert upward == set()


def test_packages_of_one_layer_do_not_import_each_other_both_ways() -> None:
    between: dict[str, set[str]] = defaultdict(set)
    for name, others in graph(lazy=True).items():
        for other in others:
            pair = [".".join(module.split(".")[:2]) for module in (name, other)]
            if pair[0] != pair[1] and all(module.startswith("coinstream.") for module in pair):
                between[pair[0]].add(pair[1])
    assert cycles(between) == []


def test_no_public_class_has_two_definitions() -> None:
    places: dict[str, set[str]] = defaultdict(set)
    for name, tree in TREES.items():
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].add(name)
    assert {name: sorted(where) for name, where in places.items() if len(where) > 1} == {}


def test_the_files_that_the_architecture_names_exist() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    known = {str(file.relative_to(ROOT)) for file in MODULES.values()}
    named = set(re.findall(r"`([\w/]+\.py)`", page))
    assert len(named) > len(LAYERS)
    missing = {name for name in named if not any(f"/{file}".endswith(f"/{name}") for file in known)}
    assert missing - {"notebooks/market.py"} == set()
