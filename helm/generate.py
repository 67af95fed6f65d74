"""Writes what of the chart is made from elsewhere: `python helm/generate.py [OUT]`. A test compares all of it.

The schema and the README come from values.py, alerts and dashboards from deploy/: a chart reads only its own folder.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin

import yaml
from pydantic import BaseModel
from values import Values

CHART = Path(__file__).parent / "duologue"
DEPLOY = Path(__file__).parents[1] / "deploy"


def generate(out: Path) -> None:
    (out / "values.schema.json").write_text(schema())
    (out / "README.md").write_text(readme())
    files = out / "files"
    shutil.rmtree(files, ignore_errors=True)
    shutil.copytree(DEPLOY / "grafana/dashboards", files / "dashboards")
    shutil.copy(DEPLOY / "prometheus/alerts.yaml", files)


def schema() -> str:
    """Draft 2020-12, which Helm 3.18 and later check by. Titles are left out: they repeat the names."""
    described = Values.model_json_schema(by_alias=True)
    described["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    described["properties"]["global"] = {"type": "object", "description": "Helm's own, unused."}
    return json.dumps(_without_titles(described), indent=1) + "\n"


def readme() -> str:
    """The page's text with a table of all values; defaults are those of values.yaml."""
    defaults = yaml.safe_load((CHART / "values.yaml").read_text())
    lines = ["| value | default | meaning |", "|---|---|---|"]
    for path, default, meaning in _rows(Values, "", defaults):
        shown = "" if default in ("", None, [], {}) else f"`{json.dumps(default)}`".replace("|", "\\|")
        lines.append(f"| `{path}` | {shown} | {meaning} |")
    text = (CHART / "README.md.in").read_text()
    return text.replace("@VALUES@", "\n".join(lines))


def _rows(model: type[BaseModel], prefix: str, defaults: dict[str, Any]) -> Iterator[tuple[str, Any, str]]:
    for field in model.model_fields.values():
        path = f"{prefix}{field.alias}"
        default = defaults.get(str(field.alias))
        inner = _model_in(field.annotation)
        if inner is None:
            yield path, default, str(field.description)
        elif get_origin(field.annotation) is dict:
            yield path, default, str(field.description)
            yield from _rows(inner, f"{path}.NAME.", inner().model_dump(by_alias=True))
        elif isinstance(default, dict):
            yield from _rows(inner, f"{path}.", default)
        else:
            yield path, default, f"{field.description} Of `min`, `max`, `target`, `cooldownSeconds`."


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The group that a field is, or that its dict or its optional has."""
    for kind in (annotation, *(argument for argument in get_args(annotation) if argument is not NoneType)):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None


def _without_titles(node: Any) -> Any:
    if isinstance(node, dict):
        return {
            key: _without_titles(value) for key, value in node.items() if key != "title" or not isinstance(value, str)
        }
    if isinstance(node, list):
        return [_without_titles(item) for item in node]
    return node


if __name__ == "__main__":
    generate(Path(sys.argv[1]) if len(sys.argv) > 1 else CHART)
