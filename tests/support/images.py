"""The services' images: which there are, and how a test has them built for real."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path

from tests.support.requirements import ROOT, missing

SERVICES = ("campaign", "roleplay", "scoring", "filtering", "training")

# A command that is given TAG CONTEXT -f DOCKERFILE, builds the image and puts it where the cluster of the tests has it.
BUILDER_VARIABLE = "DUOLOGUE_TEST_IMAGE"
_BUILD_SECONDS = 900


def dockerfile(service: str) -> Path:
    return ROOT / "services" / service / "Dockerfile"


def distribution(service: str) -> dict[str, str]:
    """What the service's pyproject.toml says of it: name, version, description and so on."""
    project: dict[str, str] = tomllib.loads((ROOT / "services" / service / "pyproject.toml").read_text())["project"]
    return project


def image_tag(service: str) -> str:
    return f"localhost/duologue-{service}:{distribution(service)['version']}"


def build_images() -> dict[str, str]:
    """The tag of each service's image, all of them built: from nothing minutes, then seconds."""
    for service in SERVICES:
        _build(image_tag(service), dockerfile(service))
    return {service: image_tag(service) for service in SERVICES}


def _build(tag: str, file: Path) -> None:
    done = subprocess.run(
        [*_builder(tag), "-f", str(file)], cwd=ROOT, capture_output=True, text=True, timeout=_BUILD_SECONDS, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{tag} can't be built:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


def _builder(tag: str) -> list[str]:
    if builder := os.environ.get(BUILDER_VARIABLE):
        return [*shlex.split(builder), tag, "."]
    if shutil.which("buildah") is None:
        missing(f"building an image needs buildah, or a command in {BUILDER_VARIABLE}")
    return ["buildah", "build", "--layers", "--tag", tag, "."]
