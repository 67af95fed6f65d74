"""The images, really built and really run: as pods that may do nothing but what the restricted standard lets them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import pytest

from tests.support.images import BUILDER_VARIABLE, SERVICES, build_images, distribution
from tests.support.pods import Namespace, restricted_namespace

pytestmark = [
    pytest.mark.skipif(
        BUILDER_VARIABLE not in os.environ, reason=f"takes minutes and a cluster: set {BUILDER_VARIABLE}"
    ),
    pytest.mark.timeout(1800),
]
every_service = pytest.mark.parametrize("service", SERVICES)

BUS = "sqlite:////var/lib/duologue/bus.db"


@pytest.fixture(scope="module")
def images() -> dict[str, str]:
    return build_images()


@pytest.fixture(scope="module")
def namespace() -> Iterator[Namespace]:
    with restricted_namespace() as namespace:
        yield namespace


@every_service
def test_a_pod_that_may_do_nothing_more_prints_its_settings(
    images: dict[str, str], namespace: Namespace, service: str
) -> None:
    with namespace.pod(images[service], ["--print-settings"], bus__url=BUS) as pod:
        assert pod.wait_for_end() == 0
        assert BUS in pod.log
        assert pod.warnings == ""


@every_service
def test_a_wrong_setting_is_the_last_that_a_pod_says(
    images: dict[str, str], namespace: Namespace, service: str
) -> None:
    with namespace.pod(images[service], grpc__port="many") as pod:
        assert pod.wait_for_end() == 2
        assert pod.log.startswith("setting grpc.port (or DUOLOGUE_GRPC__PORT): Input should be a valid integer")


@every_service
def test_every_image_has_the_command_and_a_bill_of_what_it_holds(
    images: dict[str, str], namespace: Namespace, service: str
) -> None:
    show = "import pathlib; print(pathlib.Path('/opt/duologue/sbom.cdx.json').read_text())"
    with namespace.pod(images[service], ["-c", show], ["python"]) as pod:
        assert pod.wait_for_end() == 0
        bill = json.loads(pod.log)
    assert bill["bomFormat"] == "CycloneDX"
    assert bill["metadata"]["component"]["name"] == distribution(service)["name"]
    held = {component["name"] for component in bill["components"]}
    assert {"duologue", "grpcio", "pydantic"} <= held
    assert {"pytest", "cyclonedx-bom", "hatchling"} & held == set()
    with namespace.pod(images[service], ["--help"], ["duologue"]) as pod:
        assert pod.wait_for_end() == 0
        assert "topics" in pod.log


@pytest.mark.parametrize("service", [service for service in SERVICES if service != "training"])
def test_a_pod_serves_and_ends_well_when_it_is_told_to(
    images: dict[str, str], namespace: Namespace, service: str
) -> None:
    database = {} if service in ("roleplay", "scoring") else {"database__url": "sqlite:////var/lib/duologue/state.db"}
    with namespace.pod(images[service], bus__url=BUS, log__format="json", **database) as pod:
        pod.wait_for_log('"event": "serving"')
        pod.run("python", "-c", "import os, signal; os.kill(1, signal.SIGTERM)")
        assert pod.wait_for_end() == 0
        assert '"event": "stopped"' in pod.log


@pytest.mark.parametrize("service", ["campaign", "filtering"])
def test_a_pod_brings_the_database_up_to_date_and_ends(
    images: dict[str, str], namespace: Namespace, service: str
) -> None:
    arguments = ["-m", f"duologue_{service}.migrate"]
    url = "sqlite:////var/lib/duologue/state.db"
    with namespace.pod(images[service], arguments, ["python"], database__url=url) as pod:
        assert pod.wait_for_end() == 0
        assert "the database is up to date" in pod.log
