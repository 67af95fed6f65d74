"""What the chart makes is taken by a real API server, custom resources and all."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.helm import CHART, helm
from tests.support.kubernetes import Namespace, kubectl, kubectl_done
from tests.support.requirements import ROOT, missing

VALUES = sorted((ROOT / "tests/chart/values").glob("*.yaml"))
_DEFINITIONS = ROOT.parent / "shared/data/crds"


@pytest.fixture(scope="module")
def definitions() -> None:
    if not _DEFINITIONS.is_dir():
        missing("the definitions of KEDA and the Prometheus Operator do not lie beside the repository")
    for file in sorted(_DEFINITIONS.glob("*.yaml")):
        kubectl("apply", "--server-side", "--filename", file)


@pytest.mark.usefixtures("definitions")
@pytest.mark.parametrize("values", VALUES, ids=lambda path: path.stem)
def test_the_api_server_takes_it_without_a_warning(values: Path, namespace: Namespace) -> None:
    made = helm("template", "dry", CHART, "--namespace", namespace.name, "--values", values)
    assert made.returncode == 0, made.stderr
    objects = made.stdout
    if "kind: GRPCRoute" in objects:  # the Gateway API's definitions are not here
        objects = "---\n".join(part for part in objects.split("---\n") if "kind: GRPCRoute" not in part)
    done = kubectl_done("apply", "--dry-run=server", "--namespace", namespace.name, "--filename", "-", give=objects)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
