"""Alerts fire when they should, on metrics that there are, and lead to a runbook."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.metrics import asked_for, defined
from tests.support.prometheus import require_promtool
from tests.support.requirements import ROOT

FOLDER = ROOT / "deploy/prometheus"
RUNBOOKS = ROOT / "docs/runbooks"
TESTS = sorted((FOLDER / "tests").glob("*.yaml"))
RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load((FOLDER / "alerts.yaml").read_text())["groups"] for rule in group["rules"]
]
NAMES = sorted({str(rule["alert"]) for rule in RULES})
_HEADINGS = ("## What one sees", "## Why", "## What to do", "## Before the next time", "## Followed")


def kebab(alert: str) -> str:
    """DuologueWrongAdapter: wrong-adapter."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", alert.removeprefix("Duologue")).lower()


def test_prometheus_takes_the_rules() -> None:
    run("check", "rules", "alerts.yaml")


@pytest.mark.parametrize("file", TESTS, ids=lambda file: file.stem)
def test_rules_fire_when_they_should_and_not_when_all_is_well(file: Path) -> None:
    run("test", "rules", str(file.relative_to(FOLDER)))


def test_each_alert_is_tested_both_firing_and_silent() -> None:
    cases = [
        (case["alertname"], bool(case["exp_alerts"]))
        for file in TESTS
        for test in yaml.safe_load(file.read_text())["tests"]
        for case in test["alert_rule_test"]
    ]
    assert {name for name, fires in cases if fires} == set(NAMES)
    assert {name for name, fires in cases if not fires} == set(NAMES)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule['alert']}-{rule['labels']['severity']}")
def test_an_alert_says_what_is_wrong_how_urgent_it_is_and_which_page_helps(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("critical", "warning", "info")
    assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
    assert rule["annotations"]["runbook_url"] == f"docs/runbooks/{kebab(rule['alert'])}.md"


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule['alert']}-{rule['labels']['severity']}")
def test_an_alert_asks_for_metrics_that_there_are(rule: dict[str, Any]) -> None:
    assert asked_for(rule["expr"]) - defined() == set()


@pytest.mark.parametrize("alert", NAMES)
def test_a_runbook_names_its_alert_and_says_what_to_do(alert: str) -> None:
    page = (RUNBOOKS / f"{kebab(alert)}.md").read_text()
    assert f"`{alert}`" in page
    assert [heading for heading in _HEADINGS if f"\n{heading}\n" not in page] == []


def test_the_index_has_every_runbook_and_no_runbook_is_without_an_alert() -> None:
    pages = {file.name for file in RUNBOOKS.glob("*.md")} - {"README.md"}
    assert pages == {f"{kebab(alert)}.md" for alert in NAMES}
    index = (RUNBOOKS / "README.md").read_text()
    assert [page for page in sorted(pages) if f"({page})" not in index] == []


def run(*command: str) -> None:
    done = subprocess.run([require_promtool(), *command], cwd=FOLDER, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
