"""A process that serves its metrics is found by Prometheus' file discovery, and forgotten when it ends."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from coinstream.monitoring.exporter import serving_metrics, targets_folder
from coinstream.monitoring.metrics import Metrics
from coinstream.settings import HomeSettings, MetricsSettings


def targets(home: Path) -> list[dict[str, object]]:
    return [entry for file in home.glob("metrics/*.json") for entry in json.loads(file.read_text())]


def test_served_and_announced_until_the_end(home: Path) -> None:
    metrics = Metrics()
    metrics.messages_produced.labels("t", "0").inc(3)
    with serving_metrics({"feed": "f"}, metrics=metrics) as running:
        assert running is not None
        (target,) = targets(home)
        assert target == {"targets": [f"127.0.0.1:{running.port}"], "labels": {"feed": "f"}}
        assert 'topic="t"} 3' in httpx.get(running.url, timeout=5).text.replace('partition="0",', "")
    assert targets(home) == []


def test_what_a_killed_process_left_is_removed(home: Path) -> None:
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait(120)
    folder = targets_folder(HomeSettings())
    folder.mkdir(parents=True)
    (folder / f"{done.pid}-1.json").write_text("[]")
    with serving_metrics({}, metrics=Metrics()):
        assert len(list(folder.iterdir())) == 1


def test_who_cannot_serve_works_on(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    with serving_metrics({}, MetricsSettings(host="192.0.2.1"), metrics=Metrics()) as running:
        assert running is None
    assert "not served" in caplog.text


def test_the_name_that_others_reach_is_announced(home: Path) -> None:
    settings = MetricsSettings(advertised="daemon")
    with serving_metrics({}, settings, metrics=Metrics()) as running:
        assert running is not None
        assert targets(home)[0]["targets"] == [f"daemon:{running.port}"]


def test_an_error_of_the_work_is_not_swallowed(home: Path) -> None:
    with pytest.raises(OSError, match="disk full"), serving_metrics({}, metrics=Metrics()):
        raise OSError("disk full")
    assert targets(home) == []
