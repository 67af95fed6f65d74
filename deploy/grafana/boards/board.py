"""What a dashboard is made of, and its JSON as Grafana 10 and newer import it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

_COLUMNS = 24
_SCHEMA = 39
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}

# What every query asks for: the namespaces and jobs that are chosen above. Without Kubernetes there is no namespace,
# and "All" finds what has none too.
HERE = 'namespace=~"$namespace",job=~"$job"'
OF_AGENT = f'{HERE},agent=~"$agent"'


@dataclass(frozen=True)
class Query:
    """PromQL, and how its series are called."""

    expr: str
    legend: str = ""


@dataclass(frozen=True)
class Panel:
    """One panel. `unit` is Grafana's name of it; `warn` and `bad`: from where on it is amber and red.

    `kind`: timeseries, stat (the last value), bargauge (the last value of each series) or heatmap.
    """

    title: str
    description: str
    unit: str
    queries: Sequence[Query]
    kind: str = "timeseries"
    width: int = 8
    height: int = 8
    decimals: int | None = None
    top: float | None = None
    stacked: bool = False
    warn: float | None = None
    bad: float | None = None

    def json(self, number: int, x: int, y: int) -> dict[str, Any]:
        return {
            "id": number,
            "type": self.kind,
            "title": self.title,
            "description": self.description,
            "datasource": _SOURCE,
            "gridPos": {"x": x, "y": y, "w": self.width, "h": self.height},
            "targets": [self._target(place, query) for place, query in enumerate(self.queries)],
            "fieldConfig": {"defaults": self._defaults(), "overrides": []},
            "options": self._options(),
        }

    def _target(self, place: int, query: Query) -> dict[str, Any]:
        is_last = self.kind in ("stat", "bargauge")
        return {
            "refId": chr(ord("A") + place),
            "datasource": _SOURCE,
            "expr": query.expr,
            "legendFormat": query.legend or "__auto",
            "instant": is_last,
            "range": not is_last,
            "format": "heatmap" if self.kind == "heatmap" else "time_series",
        }

    def _defaults(self) -> dict[str, Any]:
        steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
        steps += [{"color": "orange", "value": self.warn}] if self.warn is not None else []
        steps += [{"color": "red", "value": self.bad}] if self.bad is not None else []
        defaults: dict[str, Any] = {"unit": self.unit, "thresholds": {"mode": "absolute", "steps": steps}}
        if self.decimals is not None:
            defaults["decimals"] = self.decimals
        if self.top is not None:
            defaults |= {"min": 0, "max": self.top}
        if self.kind == "timeseries":
            mode = "normal" if self.stacked else "none"
            defaults["custom"] = {
                "fillOpacity": 30 if self.stacked else 8,
                "lineWidth": 1,
                "showPoints": "never",
                "spanNulls": False,
                "stacking": {"mode": mode, "group": "A"},
            }
        if self.warn is not None or self.bad is not None:
            defaults["color"] = {"mode": "thresholds" if self.kind != "timeseries" else "palette-classic"}
        return defaults

    def _options(self) -> dict[str, Any]:
        last = {"calcs": ["lastNotNull"], "fields": "", "values": False}
        if self.kind == "stat":
            return {"reduceOptions": last, "colorMode": "value", "graphMode": "none", "textMode": "value_and_name"}
        if self.kind == "bargauge":
            return {"reduceOptions": last, "orientation": "horizontal", "displayMode": "basic"}
        if self.kind == "heatmap":
            return {"calculate": False, "color": {"mode": "scheme", "scheme": "Blues"}, "yAxis": {"unit": self.unit}}
        return {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        }


@dataclass(frozen=True)
class Variable:
    """What may be chosen above a dashboard: values of a label, all of them at first, or a number."""

    name: str
    label: str
    query: str = ""
    number: str = ""

    @property
    def json(self) -> dict[str, Any]:
        if self.number:
            shown = {"text": self.number, "value": self.number}
            return {
                "type": "textbox",
                "name": self.name,
                "label": self.label,
                "query": self.number,
                "current": shown,
                "options": [shown | {"selected": True}],
            }
        return {
            "type": "query",
            "name": self.name,
            "label": self.label,
            "datasource": _SOURCE,
            "query": {"query": self.query, "refId": self.name},
            "refresh": 2,
            "sort": 1,
            "multi": True,
            "includeAll": True,
            "allValue": ".*",
            "current": {"text": "All", "value": "$__all"},
        }


NAMESPACE = Variable("namespace", "Namespace", "label_values(duologue_records_in_flight, namespace)")
JOB = Variable("job", "Job", 'label_values(duologue_records_in_flight{namespace=~"$namespace"}, job)')
AGENT = Variable("agent", "Agent", 'label_values(duologue_rounds_total{namespace=~"$namespace"}, agent)')


@dataclass(frozen=True)
class Dashboard:
    """Panels fill rows of 24 columns from left to right, as they come."""

    name: str
    title: str
    description: str
    panels: Sequence[Panel]
    variables: Sequence[Variable] = field(default=())

    @property
    def json(self) -> dict[str, Any]:
        source = {"type": "datasource", "name": "datasource", "label": "Prometheus", "query": "prometheus"}
        return {
            "uid": f"duologue-{self.name}",
            "title": self.title,
            "description": self.description,
            "tags": ["duologue"],
            "schemaVersion": _SCHEMA,
            "editable": True,
            "timezone": "browser",
            "time": {"from": "now-6h", "to": "now"},
            "refresh": "30s",
            "graphTooltip": 1,
            "links": [
                {"type": "dashboards", "title": "Duologue", "tags": ["duologue"], "asDropdown": True, "keepTime": True}
            ],
            "templating": {"list": [source, *(each.json for each in (NAMESPACE, JOB, *self.variables))]},
            "panels": [panel.json(number, x, y) for number, (panel, x, y) in enumerate(_placed(self.panels), start=1)],
        }


def _placed(panels: Sequence[Panel]) -> Iterator[tuple[Panel, int, int]]:
    x = y = height = 0
    for panel in panels:
        if x + panel.width > _COLUMNS:
            x, y, height = 0, y + height, 0
        yield panel, x, y
        x, height = x + panel.width, max(height, panel.height)
