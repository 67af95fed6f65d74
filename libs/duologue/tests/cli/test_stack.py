"""`duologue up` where something is up, is broken, or does not answer."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from duologue.cli.local.layout import Layout, Ports, State
from duologue.cli.local.processes import Process
from duologue.cli.local.readiness import check_models, wait_until_ready
from duologue.cli.local.supervisor import Supervisor
from duologue.cli.output import Failure
from duologue.models import Endpoint, capabilities
from duologue.models.check import check_chat
from tests.support.command import duologue

# Port 9 is role-play's then, where nobody answers.
NOBODY = Ports(7)


@pytest.fixture
def supervisor(home: Path) -> Iterator[Supervisor]:
    supervisor = Supervisor(Layout(home))
    yield supervisor
    supervisor.stop()


def test_a_second_up_is_fine_with_what_runs_and_refuses_anything_else(supervisor: Supervisor, home: Path) -> None:
    Layout(home).remember(State(port_base=7500, models="tiny"))
    supervisor.start([])
    for same in ([], ["--models", "tiny"], ["--port-base", "7500"]):
        done = duologue("up", *same)
        assert (done.status, done.err) == (0, "")
        assert "Already up with models tiny, ports from 7500." in done.out
    for other in (["--models", "smollm2"], ["--port-base", "7400"], ["--models", "tiny", "--port-base", "7400"]):
        done = duologue("up", *other)
        assert (done.status, done.out) == (1, "")
        assert "Already up with models tiny, ports from 7500; run `duologue down` first." in done.err


def test_the_environment_asks_for_ports_too(
    supervisor: Supervisor, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Layout(home).remember(State(port_base=7500, models="tiny"))
    supervisor.start([])
    monkeypatch.setenv("DUOLOGUE_PORT_BASE", "7400")
    assert duologue("up").status == 1


def test_a_process_that_can_not_be_spawned_is_said_to_be_so(supervisor: Supervisor, home: Path) -> None:
    supervisor.start([Process("scoring", ["/nonexistent/python", "-m", "duologue_scoring"])])
    with pytest.raises(Failure, match="scoring does not come up: can't find command '/nonexistent/python'"):
        wait_until_ready(supervisor, NOBODY, ["scoring"], 60, print)


def test_a_role_play_service_that_died_is_named_with_its_log(home: Path) -> None:
    layout = Layout(home)
    layout.remember(State(NOBODY.base, "tiny"))
    with pytest.raises(Failure, match=r"The role-play service does not answer\.") as caught:
        check_models(layout)
    assert str(layout.logs / "roleplay.log") in str(caught.value)


async def test_a_model_server_that_takes_connections_and_never_answers_is_given_up_soon(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(capabilities, "PROBE_SECONDS", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        (found,) = await check_chat("agent", Endpoint(url=url))
    assert f"{url}/info did not answer in time" in found.problem
    assert "set models.agent.url" in found.problem
