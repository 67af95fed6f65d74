"""Alerts fire when they should, on metrics that there are, and lead to a runbook."""

from __future__ import annotations

import re
import subprocess
from typing import Any

import pytest
import yaml

from tests.support.promtool import require_promtool
from tests.support.requirements import ROOT

FOLDER = ROOT / "deploy/prometheus"
RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load((FOLDER / "alerts.yaml").read_text())["groups"] for rule in group["rules"]
]


@pytest.mark.parametrize("command", [("check", "rules", "alerts.yaml"), ("test", "rules", "alerts_test.yaml")])
def test_prometheus_takes_the_rules_and_they_fire_when_they_should(command: tuple[str, ...]) -> None:
    done = subprocess.run([require_promtool(), *command], cwd=FOLDER, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: str(rule["alert"]))
def test_an_alert_has_a_runbook_that_names_it(rule: dict[str, Any]) -> None:
    assert str(rule["alert"]) in (ROOT / rule["annotations"]["runbook"]).read_text()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: str(rule["alert"]))
def test_an_alert_asks_for_metrics_that_there_are(rule: dict[str, Any]) -> None:
    code = "".join(file.read_text() for file in (ROOT / "libs/duologue/src").rglob("*.py"))
    names = set(re.findall(r"duologue_\w+", rule["expr"]))
    assert names
    assert {name for name in names if f'"{name}"' not in code} == set()
