"""Run benchmarks against the bare client in the same run: `coinstream bench`."""

from __future__ import annotations

import importlib
import inspect
import logging
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.table import Table

from coinstream.cli.output import AsJson, console, print_json, progress_console
from coinstream.errors import CoinstreamError
from coinstream.text import did_you_mean

log = logging.getLogger(__name__)

BENCHES: Final[dict[str, tuple[str, str]]] = {
    "produce": ("benchmarks.produce", "Messages/s produced: typed, routed, encoded, acknowledged."),
    "latency": ("benchmarks.latency", "Latency in ms from produce to handler at a steady rate."),
    "consume": ("benchmarks.consume", "Messages/s consumed: read, decoded, handled, committed."),
    "feeds": ("benchmarks.feeds", "Quotes/s from a websocket to the broker in one process."),
    "land": ("benchmarks.land", "Rows/s landed in Iceberg tables with every message checked."),
    "candles": ("benchmarks.candles", "CPU time per row of building candles from a landed table."),
    "scale": ("benchmarks.scale", "CPU time per message by partitions, symbols, members, shards."),
    "peers": ("benchmarks.peers.bench", "The same produce, consume and land work with other libraries."),
    "soak": ("benchmarks.soak", "Memory growth over many millions of messages."),
}
"""Every benchmark with its module, whose `run(**options)` returns the figures, and its one-line help."""

ALL: Final = "all"

LOAD_PER_CORE: Final = 0.75
"""Load average per core above which benchmarks are refused."""

_CHECKOUT: Final = Path(__file__).resolve().parents[3]

_EXAMPLES: Final = """
Examples:

coinstream bench   (list the benchmarks)

coinstream bench produce --messages 1000000 --json

coinstream bench all --quick
"""

app = typer.Typer(help="Measure against the bare client in the same run.")


@app.command(epilog=_EXAMPLES, context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def bench(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(help="The benchmark, or `all`. Default: list them.")] = None,
    json: AsJson = False,
    anyway: Annotated[bool, typer.Option("--anyway", help="Measure even if the machine is loaded.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="With `all`: fewer messages, 5 minutes.")] = False,
) -> None:
    """Run a benchmark. Options follow its name, for example `coinstream bench produce --messages 1000000`.

    `all` runs every benchmark with sizes that take about 13 minutes on two cores. If one fails, the others
    still run, and the exit code is 1. Starts a local broker unless REDPANDA_BROKERS is set. Refuses
    to run while the load average is above 0.75 per core, because other work distorts the figures; see
    `--anyway`.
    """
    if name is None:
        _list(json)
        return
    if name == ALL:
        if context.args:
            raise typer.BadParameter(f"`bench {ALL}` takes only --quick; got {' '.join(context.args)}")
        _check_load(anyway)
        _all(json, quick=quick)
        return
    if quick:
        raise typer.BadParameter(f"--quick belongs to `bench {ALL}`; give `bench {name}` its own options")
    run = _load(name)
    options = _options(name, run, context.args)
    _check_load(anyway)
    result = _measured(lambda: run(**options))
    print_json(result) if json else _render(name, result)


def _check_load(anyway: bool) -> None:
    """Print the load average.

    Raises:
        CoinstreamError: the machine is loaded and `--anyway` was not given.
    """
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    progress_console.print(f"load average {load:.1f} on {cores} cores")
    if load > LOAD_PER_CORE * cores and not anyway:
        raise CoinstreamError(
            f"the load average is {load:.1f} on {cores} cores; above {LOAD_PER_CORE * cores:g} the figures "
            "are not comparable. Wait until other work has ended (an earlier bench counts for a minute), "
            "or measure with --anyway."
        )


def _measured(run: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Run a benchmark and add the processor time of other processes."""
    load, others, clock = os.getloadavg()[0], _others_cpu_s(), time.monotonic()
    result = run()
    busy = max(_others_cpu_s() - others, 0.0) / (time.monotonic() - clock)
    return result | {"load_before": round(load, 1), "other_cores_busy": round(busy, 2)}


def _others_cpu_s() -> float:
    """Return the processor time of all processes but this one and its ended children, in seconds."""
    import psutil

    total, own = psutil.cpu_times(), os.times()
    mine = own.user + own.system + own.children_user + own.children_system
    return float(total.user + total.system - mine)


def _all(json: bool, *, quick: bool) -> None:
    """Run every benchmark and report failures at the end.

    Raises:
        CoinstreamError: a benchmark failed. Names each with its error.
    """
    sizes = _sizes(quick)
    results: dict[str, dict[str, Any]] = {}
    failed: dict[str, str] = {}
    for name in BENCHES:
        progress_console.print(f"bench {name} …")
        run, started = _load(name), time.monotonic()
        options = sizes.get(name, {})
        try:
            results[name] = _measured(lambda: run(**options)) | {"quick": quick}  # noqa: B023
        except Exception as error:
            log.debug("bench %s", name, exc_info=True)
            failed[name] = f"{type(error).__name__}: {error}"
            progress_console.print(f"bench {name} failed: {failed[name]}", markup=False)
            continue
        progress_console.print(f"bench {name}: {time.monotonic() - started:.0f} s")
        if not json:
            _render(name, results[name])
    if json:
        print_json(results)
    if failed:
        raise CoinstreamError("; ".join(f"bench {name} failed: {error}" for name, error in failed.items()))


def _sizes(quick: bool) -> Mapping[str, Mapping[str, Any]]:
    """Return the options of each benchmark in `bench all`."""
    _use_checkout()
    module = importlib.import_module("benchmarks.sizes")
    found: Mapping[str, Mapping[str, Any]] = module.QUICK if quick else module.FULL
    return found


def _list(json: bool) -> None:
    if json:
        print_json({"benches": {name: text for name, (_, text) in BENCHES.items()}})
        return
    table = Table("bench", "measures", box=None)
    for name, (_, text) in BENCHES.items():
        table.add_row(name, text)
    console.print(table)


def _load(name: str) -> Callable[..., dict[str, Any]]:
    if name not in BENCHES:
        raise typer.BadParameter(f"{name!r} is no bench; {did_you_mean(name, BENCHES)}", param_hint="NAME")
    _use_checkout()
    run: Callable[..., dict[str, Any]] = importlib.import_module(BENCHES[name][0]).run
    return run


def _use_checkout() -> None:
    """Make the package `benchmarks` importable.

    Raises:
        CoinstreamError: coinstream is installed without its repository.
    """
    if not (_CHECKOUT / "benchmarks").is_dir():
        raise CoinstreamError(
            "the benches are part of the repository, not of the installed package: "
            "clone it and run `coinstream bench` from there"
        )
    if str(_CHECKOUT) not in sys.path:
        sys.path.insert(0, str(_CHECKOUT))


def _options(name: str, run: Callable[..., object], words: list[str]) -> dict[str, Any]:
    """Convert options such as `--repetitions 3` or `--repetitions=3` to typed arguments of `run`."""
    known = inspect.signature(run).parameters
    found: dict[str, Any] = {}
    rest = iter(words)
    for word in rest:
        option, is_joined, value = word.partition("=")
        parameter = known.get(option.removeprefix("--").replace("-", "_"))
        if not option.startswith("--") or parameter is None:
            offered = ", ".join(f"--{each.replace('_', '-')} {known[each].default}" for each in known)
            raise typer.BadParameter(f"{word!r} is no option of bench {name}; there are: {offered}")
        text = value if is_joined else next(rest, "")
        try:
            found[parameter.name] = _convert(text, parameter.default)
        except ValueError:
            kind = type(parameter.default).__name__
            raise typer.BadParameter(f"{option} wants a value of type {kind}, not {text!r}") from None
    return found


def _convert(text: str, default: object) -> object:
    if isinstance(default, bool):
        if text.lower() not in {"true", "false"}:
            raise ValueError(text)
        return text.lower() == "true"
    if isinstance(default, int):
        return int(text)
    return float(text) if isinstance(default, float) else text


def _render(name: str, result: Mapping[str, Any]) -> None:
    table = Table(title=f"bench {name}", show_header=False, box=None, title_justify="left")
    _rows(table, result, "")
    console.print(table)
    progress_console.print("[dim]Figures depend on the machine and its load; compare ratios.[/]")


def _rows(table: Table, result: Mapping[str, Any], prefix: str) -> None:
    for key, value in result.items():
        if isinstance(value, Mapping):
            _rows(table, value, f"{prefix}{key}.")
        else:
            table.add_row(prefix + key, _text(value))


def _text(value: object) -> str:
    if isinstance(value, list):
        return "  ".join(_text(part) for part in value)
    return f"{value:,}" if isinstance(value, (int, float)) and not isinstance(value, bool) else str(value)
