"""The page of metrics: every one that the code makes, which services have it, and what bounds its labels."""

from __future__ import annotations

import importlib
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from prometheus_client.core import Metric
from prometheus_client.metrics import MetricWrapperBase

from duologue_campaign.standing import FAMILIES as STANDING

SERVICES = ("campaign", "roleplay", "scoring", "filtering", "training")

# Whatever a label is, it must not grow with what the services do: what each is bounded by stands here.
LABELS = {
    "adapter": "those that answer and the canaries of these agents: one of each an agent at a time",
    "agent": "the 50 whose campaigns are the newest",
    "attempt": "`first` or `again`",
    "bound": "`low`, `value`, `high`",
    "code": "gRPC's status codes",
    "currency": "the one of the settings",
    "decision": "`kept` or `dropped`",
    "end_reason": "how a dialogue can end: a few",
    "filter": "the kinds of filters, and empty for what was kept",
    "group": "the services",
    "kind": "of tokens: `prompt` all that were read, `cached` those of them that the server says it had, `completion`"
    " those that were written",
    "metric": "the scores of a dialogue: a few",
    "method": "the methods of our services and of health; what nobody offers is `unknown`",
    "model": "adapters that a process has been asked for since it started: one a round",
    "outcome": "a few words each: of a record `done`, `retried`, `dead`, `cancelled`, `lease_lost`; of a request to a"
    " model server `ok`, `unavailable`, `refused`; of an utterance that was asked for ahead `used`, `wasted`",
    "part": "`client`, `agent`, `manager` or `judge`",
    "path": "the paths of a model server that are asked",
    "phase": "`generating`, `sealing`, `training`, `evaluating`",
    "reason": "`no token` or `unknown token`",
    "role": "`campaign` or `filtering`",
    "round": "`latest` or `before`",
    "server": "the URLs of the settings",
    "service": "the services",
    "split": "`training` or `evaluation`",
    "state": "`running`, `paused`, `completed`, `failed`, `cancelled`",
    "topic": "the [topics](topics.md) and their retries",
    "verdict": "`released` or `refused`",
    "version": "one",
    "workflow": "the workflows that a team wrote down, by id",
}
# What the parts of the library count, and the services that have it. What a service counts itself is its own.
_PARTS = {
    "duologue.runtime": ("Every service: itself, and calls of gRPC", SERVICES),
    "duologue.bus": ("Every service: records", SERVICES),
    "duologue.models": ("Role-play and scoring: model servers", ("roleplay", "scoring")),
    "duologue.store": ("Campaign and filtering: databases", ("campaign", "filtering")),
}
_UNITS = ("seconds", "bytes", "ratio")
_PAGE = """# Metrics

Every service answers Prometheus at `http://HOST:PORT/metrics` ([settings](settings.md) `metrics.host`, `metrics.port`).
Whoever asks for OpenMetrics is told exemplars too: on histograms the trace of a dialogue that was
[recorded](../operations/telemetry.md) while the value was counted.

Names begin with `duologue_` and end with their unit: `_seconds`, `_bytes`, `_ratio`; `_total` is a count that only
grows, what has neither is a number of things, or 1 for yes. No label holds a dialogue, a campaign or anything else that
goes on growing; for those there are logs and traces. Beside these stand the Python client's own: `process_*`,
`python_*`.
"""


@dataclass(frozen=True)
class Described:
    """A metric as the page tells it. `part`: of the library, or the service that alone has it."""

    name: str
    kind: str
    labels: tuple[str, ...]
    meaning: str
    buckets: tuple[float, ...]
    part: str
    services: tuple[str, ...]

    @property
    def unit(self) -> str:
        return next((unit for unit in _UNITS if unit in self.name.split("_")), "number")


def described() -> list[Described]:
    """All metrics, by the modules that make them."""
    for service in SERVICES:
        importlib.import_module(f"duologue_{service}.__main__")
    importlib.import_module("duologue.bus.kafka.bus")  # which only a bus on Kafka needs
    modules = sorted((name, module) for name, module in sys.modules.items() if name.startswith("duologue"))
    found = [_describe(name, metric) for name, module in modules for metric in _made_by(module)]
    found += [_read_from_the_database(name, *family) for name, family in STANDING.items()]
    return sorted(found, key=lambda metric: (metric.part not in _PARTS, metric.part, metric.name))


def metrics_page() -> str:
    lines = [_PAGE]
    metrics = described()
    titles = {part: title for part, (title, _) in _PARTS.items()}
    titles |= {metric.part: f"Of {metric.part} alone" for metric in metrics if metric.part not in titles}
    for part, title in titles.items():
        lines += [f"## {title}\n", *_table([metric for metric in metrics if metric.part == part]), ""]
    used = {label for metric in metrics for label in metric.labels}
    lines += ["## Labels\n", "| label | values |", "|---|---|"]
    lines += [f"| `{label}` | {LABELS[label]} |" for label in sorted(used)]
    return "\n".join([*lines, ""])


def _table(metrics: list[Described]) -> Iterator[str]:
    yield "| metric | type | unit | labels | meaning |"
    yield "|---|---|---|---|---|"
    for metric in metrics:
        span = f", {metric.buckets[0]:g} to {metric.buckets[-1]:g}" if metric.buckets else ""
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        yield f"| `{metric.name}` | {metric.kind}{span} | {metric.unit} | {labels} | {metric.meaning} |"


def _made_by(module: Any) -> list[MetricWrapperBase]:
    metrics = [value for value in vars(module).values() if isinstance(value, MetricWrapperBase)]
    return [metric for metric in metrics if not metric._labelvalues]  # else it is one value of a metric


def _read_from_the_database(name: str, kind: type[Metric], text: str, labels: tuple[str, ...]) -> Described:
    return Described(name, kind(name, text).type, labels, text, (), "campaign", ("campaign",))


def _describe(module: str, metric: MetricWrapperBase) -> Described:
    (family,) = metric.describe()
    suffix = {"counter": "_total", "info": "_info"}.get(family.type, "")
    service = module.partition(".")[0].removeprefix("duologue_")
    part = next((part for part in _PARTS if module.startswith(part)), service)
    labels = metric._labelnames or (("service", "version") if family.type == "info" else ())
    buckets = tuple(float(bound) for bound in metric._kwargs.get("buckets", ()) if bound != math.inf)
    name = family.name + suffix
    _, services = _PARTS.get(part, ("", (service,)))
    return Described(name, family.type, tuple(labels), family.documentation, buckets, part, services)
