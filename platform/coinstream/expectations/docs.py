"""Write Great Expectations' Data Docs: pages of every suite and of the results of each landing.

The pages are files that `coinstream lake docs` and `coinstream up` serve. The web UI links to the page of
each landing.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from html import escape
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from coinstream.errors import LakeError
from coinstream.expectations.offline import make_offline
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
        with (self._folder / "lock").open("w") as file:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX)
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
