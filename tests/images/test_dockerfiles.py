"""What the Dockerfiles promise of every image, and that they promise the same."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.support.dockerfile import instructions, labels, last_stage
from tests.support.images import SERVICES, distribution, dockerfile
from tests.support.requirements import ROOT

JOB = ROOT / "services/training/job.Dockerfile"
FILES = [*map(dockerfile, SERVICES), JOB]
every_file = pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))


def body(file: Path) -> str:
    """Without the comment that a file begins with."""
    return file.read_text().partition("\n\n")[2]


def named(service: str) -> str:
    """The Dockerfile of the campaign service, had it this name."""
    description = {name: distribution(name)["description"] for name in ("campaign", service)}
    text = dockerfile("campaign").read_text().replace(description["campaign"], "DESCRIPTION")
    return text.replace("campaign", service).replace("DESCRIPTION", description[service])


@pytest.mark.parametrize("service", SERVICES)
def test_the_services_dockerfiles_differ_in_names_alone(service: str) -> None:
    assert dockerfile(service).read_text() == named(service)


def test_a_trainings_own_image_differs_in_what_it_holds_and_begins_with() -> None:
    service = body(dockerfile("training"))
    for ours, jobs in (
        ("services.txt", "ml.txt"),
        ('"duologue_training"', '"duologue_training.pod"'),
        ("duologue-training", "duologue-training-job"),
        (labels(dockerfile("training"))["description"], labels(JOB)["description"]),
    ):
        assert ours in service
        service = service.replace(ours, jobs)
    assert body(JOB) == service


@every_file
def test_an_image_stands_on_the_named_python_which_is_pinned(file: Path) -> None:
    stages = {"${PYTHON_IMAGE}", "scratch"}
    for instruction in instructions(file):
        if instruction.word == "FROM":
            base, _, name = instruction.text.partition(" AS ")
            assert base in stages
            stages.add(name)
    (base,) = re.findall(r"^ARG PYTHON_IMAGE=(.+)$", file.read_text(), re.MULTILINE)
    name, _, tag = base.rpartition(":")
    assert name.startswith("docker.io/")
    assert re.fullmatch(r"3\.\d+[-.\w]*", tag)


@every_file
def test_what_comes_from_an_index_comes_with_its_hash(file: Path) -> None:
    for instruction in instructions(file):
        for command in instruction.text.split("&&"):
            if "pip" in command.split() and ("install" in command or "wheel" in command):
                assert "--no-deps" in command
                is_local = "--no-index" in command or "--no-build-isolation" in command
                assert is_local or "--require-hashes" in command, command


@every_file
def test_an_image_is_copied_together_and_runs_nothing_while_it_is_made(file: Path) -> None:
    words = {instruction.word for instruction in last_stage(file)}
    assert words == {"FROM", "COPY", "ENV", "WORKDIR", "USER", "ENTRYPOINT", "ARG", "LABEL"}
    copies = [instruction.text for instruction in last_stage(file) if instruction.word == "COPY"]
    assert all("--from=" in copy for copy in copies)


@every_file
def test_an_image_runs_as_a_number_that_is_not_root(file: Path) -> None:
    users = [instruction.text for instruction in instructions(file) if instruction.word == "USER"]
    assert users == ["10001:10001"]


@every_file
def test_an_image_starts_its_service_without_a_shell(file: Path) -> None:
    (entrypoint,) = [instruction.text for instruction in last_stage(file) if instruction.word == "ENTRYPOINT"]
    python, flag, module = json.loads(entrypoint)
    assert (python, flag) == ("/opt/duologue/bin/python", "-m")
    package, _, name = module.partition(".")
    assert (file.parent / "src" / package / f"{name or '__main__'}.py").is_file()


@every_file
def test_nothing_but_the_folder_of_state_belongs_to_the_user(file: Path) -> None:
    owned = [instruction.text for instruction in last_stage(file) if "--chown" in instruction.text]
    assert [text.split()[-1] for text in owned] == ["/var/lib/duologue"]


@every_file
def test_an_image_says_what_it_is(file: Path) -> None:
    told = labels(file)
    project = distribution(file.parent.name)
    assert told["title"].startswith(project["name"])
    assert told["description"].endswith(project["description"].removeprefix("A "))
    assert told["licenses"] == project["license"]
    defaults = dict(re.findall(r"^ARG (\w+)=(.*)$", file.read_text(), re.MULTILINE))
    assert defaults["VERSION"] == project["version"]
    assert {told[name] for name in ("version", "revision", "source")} == {"${VERSION}", "${REVISION}", "${SOURCE}"}
