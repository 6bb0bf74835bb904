"""The judge of a landing: every message of a batch against every rule of its type."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

import pyarrow as pa

from coinstream.expectations.check_result import MAX_SAMPLES, Outcome
from coinstream.expectations.rules import Rule, rules_for
from coinstream.expectations.validation import Validator
from coinstream.expectations.validation_frame import Evidence
from coinstream.lake.batch import Batch
from coinstream.lake.quarantine import Judgement
from coinstream.lake.schemas import TableSpec
from coinstream.settings import LakeSettings

_ORIGIN = ("topic", "partition", "offset")


class ExpectationJudge:
    """Refuses what breaks a blocking rule, or what the table cannot hold; reports the rest."""

    def __init__(self, spec: TableSpec, settings: LakeSettings | None = None) -> None:
        chosen = settings or LakeSettings()
        rules = rules_for(spec.name, chosen)
        self._spec = spec
        self._evidence = Evidence(spec, chosen)
        self._validator = Validator(spec.name, rules)

    def judge(self, batch: Batch, ingested: datetime) -> Judgement:
        """See `Judge.judge`."""
        outcomes = self._validator.validate(self._evidence.frame(batch, ingested))
        refused = ~batch.storable()
        for outcome in outcomes:
            if outcome.blocking:
                refused[outcome.rows] = True
        rules = zip(self._validator.rules, outcomes, strict=True)
        return Judgement(refused, [_with_samples(rule, outcome, batch) for rule, outcome in rules])


def _with_samples(rule: Rule, outcome: Outcome, batch: Batch) -> Outcome:
    if not len(outcome.rows):
        return outcome
    names = list(dict.fromkeys([*batch.spec.key, *rule.columns, *_ORIGIN]))
    taken = batch.rows.select(names).take(pa.array(outcome.rows[:MAX_SAMPLES])).to_pylist()
    faults = batch.fault.take(pa.array(outcome.rows[:MAX_SAMPLES])).to_pylist()
    shown = [_shown(row, fault) for row, fault in zip(taken, faults, strict=True)]
    return replace(outcome, samples=tuple(shown))


def _shown(row: dict[str, Any], fault: str | None) -> dict[str, Any]:
    texts: dict[str, Any] = {
        name: value if isinstance(value, (int, str)) or value is None else f"{value}"
        for name, value in row.items()
    }
    return texts if fault is None else {**texts, "fault": fault}
