"""Write Great Expectations' Data Docs: pages of every suite and of the results of each landing.

The pages are files that `coinstream lake docs` and `coinstream up` serve. They are complete without a
network: they have their own styles, no scripts and no remote files. The web UI links to the page of each
landing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from html import escape
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from filelock import FileLock

from coinstream.errors import LakeError
from coinstream.expectations.rules import ROW_COUNT, Rule, rules_for
from coinstream.expectations.validator import quiet_great_expectations, suite_of
from coinstream.lake.validation import CheckResult
from coinstream.settings import HomeSettings, LakeSettings
from coinstream.text import printable

if TYPE_CHECKING:
    from great_expectations.core import ExpectationSuiteValidationResult
    from great_expectations.core.expectation_validation_result import ExpectationValidationResult


KEPT: Final = 50
"""Maximum landings per type with a page."""
_SITE: Final = "gx/uncommitted/data_docs/local_site"
_BATCH: Final = "messages"
_TITLE: Final = b"<!doctype html><title>Data Docs</title>"
_NOTHING_YET: Final = _TITLE + b"<p>Nothing was landed yet: run <code>coinstream lake land</code>."


class DataDocs:
    """Data Docs of one lake."""

    def __init__(self, settings: LakeSettings | None = None, home: HomeSettings | None = None) -> None:
        self._settings = settings or LakeSettings()
        self._folder = (home or HomeSettings()).home / "lake" / "expectations"

    @property
    def site(self) -> Path:
        """Return the folder to serve, which contains `index.html`."""
        return self._folder / _SITE

    def publish(self, name: str, checks: Sequence[CheckResult], run: str, when: datetime) -> Path:
        """Add the pages of a landing and of its suite; return the path of the landing's page.

        Args:
            name: message type.
            checks: results of the landing.
            run: id of the landing.
            when: time of the landing.

        Raises:
            LakeError: the pages cannot be written.
        """
        rules = rules_for(name, self._settings)
        found = {check.name: check for check in checks}
        try:
            with self._alone():
                return self._publish(name, rules, found, run, when)
        except OSError as error:
            raise LakeError(
                f"cannot write Data Docs in {self._folder}: {error.strerror or error}; make room, or set "
                "COINSTREAM_HOME to another folder"
            ) from error

    def page(self, name: str, run: str) -> Path | None:
        """Return the page of a landing, or the newest page of the type, or None before the first landing."""
        folder = self.site / "validations" / name
        pages = sorted(folder.glob(f"{run}/*/*.html")) or sorted(
            folder.glob("*/*/*.html"), key=lambda page: page.parent.name
        )
        return pages[-1] if pages else None

    def address(self, page: Path) -> str | None:
        """Return the URL of a page, or None if the pages are not served."""
        base = self._settings.docs_url
        return f"{base.rstrip('/')}/{page.relative_to(self.site).as_posix()}" if base else None

    def _publish(
        self, name: str, rules: Sequence[Rule], found: Mapping[str, CheckResult], run: str, when: datetime
    ) -> Path:
        gx = quiet_great_expectations()
        from great_expectations.core.run_identifier import RunIdentifier
        from great_expectations.data_context.types.base import ProgressBarsConfig
        from great_expectations.data_context.types.resource_identifiers import (
            ExpectationSuiteIdentifier,
            ValidationResultIdentifier,
        )

        context = gx.get_context(mode="file", project_root_dir=self._folder)
        context.variables.progress_bars = ProgressBarsConfig(globally=False)
        context.suites.add_or_update(suite_of(name, rules))
        suite = ExpectationSuiteIdentifier(name)
        key = ValidationResultIdentifier(suite, RunIdentifier(run, when), _BATCH)
        store = context.validation_results_store
        store.set(key, _result(name, rules, found, run, when))
        mine = sorted(
            (known for known in store.list_keys() if known.expectation_suite_identifier.name == name),
            key=lambda known: known.run_id.run_time,
        )
        for old in mine[:-KEPT]:
            store.remove_key(old)
        context.build_data_docs(resource_identifiers=[suite, key])
        make_offline(self.site)
        page = self.page(name, run)
        if page is None:
            raise LakeError(f"Great Expectations wrote no page of landing {run} in {self.site}")
        return page

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Lock the pages, because all landings write the same index."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self._folder / "lock"):
            yield


def _result(
    name: str, rules: Sequence[Rule], found: Mapping[str, CheckResult], run: str, when: datetime
) -> ExpectationSuiteValidationResult:
    from great_expectations import __version__
    from great_expectations.core import ExpectationSuiteValidationResult
    from great_expectations.core.run_identifier import RunIdentifier

    results = [_of_rule(rule, found[rule.name]) for rule in rules if rule.name in found]
    met = sum(bool(result.success) for result in results)
    count = len(results)
    return ExpectationSuiteValidationResult(
        success=met == count,
        results=results,
        suite_name=name,
        statistics={
            "evaluated_expectations": count,
            "successful_expectations": met,
            "unsuccessful_expectations": count - met,
            "success_percent": 100 * met / count if count else None,
        },
        meta={
            "great_expectations_version": __version__,
            "run_id": RunIdentifier(run, when),
            "active_batch_definition": {
                "datasource_name": "coinstream",
                "data_asset_name": f"messages of the table {name}",
                "batch_identifiers": {"landing": run},
            },
            "validation_time": when.isoformat(),
        },
    )


def _of_rule(rule: Rule, check: CheckResult) -> ExpectationValidationResult:
    from great_expectations.core.expectation_validation_result import ExpectationValidationResult

    share = 100 * check.failed / check.checked if check.checked else 0.0
    result: dict[str, Any] = {
        "element_count": check.checked,
        "missing_count": 0,
        "missing_percent": 0.0,
        "unexpected_count": check.failed,
        "unexpected_percent": share,
        "unexpected_percent_total": share,
        "unexpected_percent_nonmissing": share,
        "partial_unexpected_list": [_sample(sample) for sample in check.samples],
    }
    if rule.name == ROW_COUNT:
        result = {"observed_value": check.checked}
    return ExpectationValidationResult(
        success=check.passed,
        expectation_config=rule.expectation().configuration,
        result=result,
        exception_info={"raised_exception": False, "exception_message": None, "exception_traceback": None},
    )


def _sample(sample: Mapping[str, Any]) -> str:
    """Return a failed row as escaped HTML, because Great Expectations does not escape it."""
    text = ", ".join(f"{name} {value}" for name, value in sample.items() if value is not None)
    # A dollar sign begins a parameter in the templates of the pages.
    return escape(printable(text)).replace("$", "&#36;")


class _Pages(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Suppress the request log."""

    def list_directory(self, path: Any) -> None:
        """Refuse folder listings; without an index there are no pages yet."""
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(_NOTHING_YET)))
        self.end_headers()
        self.wfile.write(_NOTHING_YET)


@contextmanager
def serve(folder: Path, host: str, port: int) -> Iterator[ThreadingHTTPServer]:
    """Return a server of the folder's files, bound and not yet serving.

    Raises:
        LakeError: the address is in use or invalid.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        server = ThreadingHTTPServer((host, port), partial(_Pages, directory=str(folder)))
    except OSError as error:
        raise LakeError(
            f"Data Docs cannot be served at {host}:{port}: {error.strerror}; choose another --port"
        ) from error
    with server:
        yield server


_MARK: Final = "<!-- complete without a network, also its styles -->"
_REMOTE: Final = re.compile(
    r"<script\b.*?</script>"
    r"|<link\b[^>]*\bhref=\"(?:https?:)?//[^>]*>"
    r"|<img\b[^>]*\bsrc=\"(?:https?:)?//[^>]*>"
    r"|<footer\b.*?</footer>",
    re.DOTALL | re.IGNORECASE,
)
_REMOTE_STYLE: Final = re.compile(r"url\(\s*['\"]?(?:https?:)?//[^)]*\)", re.IGNORECASE)
_LINK: Final = re.compile(r"<a\b[^>]*\bhref=\"(?:https?:)?//[^>]*>(.*?)</a>", re.DOTALL | re.IGNORECASE)
_STATUS: Final = re.compile(r"Status:.{0,200}?(Succeeded|Failed)", re.DOTALL)
_STYLE: Final = """<style>
:root{color-scheme:light dark}
body{font:15px/1.5 system-ui,sans-serif;max-width:75rem;margin:1.5rem auto;padding:0 1rem}
table{border-collapse:collapse;margin:.5rem 0}
td,th{border:1px solid #8886;padding:.3rem .6rem;text-align:left;vertical-align:top}
code,pre{background:#8882;padding:.1rem .3rem}
ul{padding-left:1.2rem} ol.breadcrumb{list-style:none;padding:0;display:flex;gap:.5rem}
.failed{color:#d1453b} .succeeded{color:#0f9d6e}
[data-toggle=collapse],.card:has([data-toggle=buttons]),form,input[type=radio],input[type=radio]+label{display:none}
</style>"""


def make_offline(site: Path) -> None:
    """Rewrite the new pages of a site, and its index.

    Raises:
        OSError: a page cannot be read or written.
    """
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        if _MARK not in text:
            page.write_text(offline(text), encoding="utf-8")
    (site / "index.html").write_text(_index(site), encoding="utf-8")


def offline(text: str) -> str:
    """Return a page without remote resources; links to other sites become their text."""
    bare = _REMOTE_STYLE.sub("none", _LINK.sub(r"\1", _REMOTE.sub("", text)))
    return bare.replace("</head>", f"{_MARK}{_STYLE}</head>", 1)


def _index(site: Path) -> str:
    """Return the list of all landings, newest first, with their status."""
    pages = sorted(site.glob("validations/*/*/*/*.html"), key=lambda page: page.parent.name, reverse=True)
    rows = "".join(_row(site, page) for page in pages)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Data Docs</title>{_MARK}{_STYLE}'
        "</head><body><h1>Data Docs</h1><p>What the expectations found in each landing, newest first.</p>"
        f"<table><tr><th>table</th><th>time (UTC)</th><th>landing</th><th>status</th></tr>{rows}</table>"
        "</body></html>"
    )


def _row(site: Path, page: Path) -> str:
    table, run, stamp = page.parts[-4], page.parts[-3], page.parts[-2]
    found = _STATUS.search(page.read_text(encoding="utf-8"))
    status = found[1] if found else "unknown"
    time = f"{stamp[:4]}-{stamp[4:6]}-{stamp[6:8]} {stamp[9:11]}:{stamp[11:13]}:{stamp[13:15]}"
    address = escape(page.relative_to(site).as_posix())
    return (
        f'<tr><td><a href="expectations/{escape(table)}.html">{escape(table)}</a></td><td>{escape(time)}</td>'
        f'<td><a href="{address}">{escape(run)}</a></td>'
        f'<td class="{status.lower()}">{status}</td></tr>'
    )
