"""Writes the dashboards: `python deploy/grafana/generate.py [FOLDER]`, by default into dashboards/ beside this file."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from boards.models import MODELS
from boards.overview import OVERVIEW
from boards.pipeline import PIPELINE
from boards.quality import QUALITY

DASHBOARDS = (OVERVIEW, PIPELINE, MODELS, QUALITY)


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for dashboard in DASHBOARDS:
        (folder / f"{dashboard.name}.json").write_text(json.dumps(dashboard.json, indent=2) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "dashboards")
