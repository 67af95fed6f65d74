"""One set of servers, one namespace and one release for all tests on the cluster."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.kubernetes import Namespace, made_namespace
from tests.support.release import Beside, Release, servers_beside


@pytest.fixture(scope="session")
def beside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Beside]:
    folder = tmp_path_factory.mktemp("beside")
    for parent in (folder, *folder.parents[:3]):  # the pods are somebody else, who may pass
        parent.chmod(parent.stat().st_mode | 0o055)
    with servers_beside(folder) as servers:
        yield servers


@pytest.fixture(scope="session")
def namespace() -> Namespace:
    return made_namespace("duologue-test")


@pytest.fixture(scope="session")
def release(beside: Beside, namespace: Namespace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Release]:
    release = Release.prepared("duo", namespace, beside, tmp_path_factory.mktemp("values"))
    release.install()
    yield release
    release.helm("uninstall", "--wait")
