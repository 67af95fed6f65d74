"""The page of metrics is the truth: every one that the code makes, named as all are, and told by services that run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from docs.metrics import LABELS, SERVICES, STANDING, Described, described
from tests.support.requirements import ROOT
from tests.support.service_process import service_process

METRICS = described()
_MADE = re.compile(r'\b(?:Counter|Gauge|Histogram|Info|Metric)\(\s*"(\w+)"')
_TYPE = re.compile(r"^# TYPE (duologue_\w+) \w+$", re.MULTILINE)
# Other units of what has a base unit; Prometheus and its dashboards reckon in these alone.
_OTHER_UNITS = {"milliseconds", "ms", "minutes", "hours", "microseconds", "kb", "mb", "kilobytes", "percent", "share"}
_ONLY_ON_KAFKA = {"duologue_records_overtaken_total"}
# Of these there are more every day.
_UNBOUNDED = {"campaign", "campaign_id", "dialogue", "dialogue_id", "key", "trace_id", "dataset", "persona"}


def sources() -> Iterator[Path]:
    yield from (ROOT / "libs/duologue/src").rglob("*.py")
    yield from ROOT.glob("services/*/src/**/*.py")


def test_every_metric_that_the_code_makes_is_on_the_page() -> None:
    made = set(STANDING) | {
        name.removesuffix("_info") for file in sources() for name in _MADE.findall(file.read_text())
    }
    assert made == {metric.name.removesuffix("_info") for metric in METRICS}


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_names_and_labels_follow_one_scheme(metric: Described) -> None:
    assert re.fullmatch(r"duologue(_[a-z]+)+", metric.name)
    assert metric.name.removesuffix("_total").rpartition("_")[2] not in _OTHER_UNITS
    assert (metric.kind == "counter") == metric.name.endswith("_total")
    if metric.kind == "histogram":
        assert metric.unit != "number"
    if metric.unit != "number":
        assert metric.name.removesuffix("_total").endswith(metric.unit)
    assert metric.meaning.endswith(".")
    assert set(metric.labels) <= set(LABELS), "docs/metrics.py says of each label what bounds it"
    assert not set(metric.labels) & _UNBOUNDED


@pytest.mark.parametrize("service", SERVICES)
async def test_a_service_that_runs_tells_what_the_page_says(service: str, tmp_path: Path) -> None:
    async with service_process(f"duologue_{service}", tmp_path, **_database(service, tmp_path)) as running:
        await running.serves()
        page = f"http://127.0.0.1:{running.metrics_port}/metrics"
        async with aiohttp.ClientSession() as client, client.get(page) as answer:
            told = set(_TYPE.findall(await answer.text()))
    assert told >= {
        metric.name
        for metric in METRICS
        if service in metric.services and metric.name not in (*STANDING, *_ONLY_ON_KAFKA)  # or once there are campaigns
    }
    assert told <= {metric.name for metric in METRICS}


def _database(service: str, folder: Path) -> dict[str, object]:
    return {"database__url": f"sqlite:///{folder / 'state.db'}"} if service in ("campaign", "filtering") else {}
