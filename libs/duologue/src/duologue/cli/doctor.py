"""`duologue doctor`: what is wrong, and how to mend it."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import Annotated

import grpc
import typer

from duologue.cli.adapter import is_canary
from duologue.cli.bus import bus_settings
from duologue.cli.connection import ADDRESS_VARIABLE, campaign_address, campaign_service
from duologue.cli.dlq import count as count_letters
from duologue.cli.invocation import command
from duologue.cli.local.layout import Layout, missing_ml_python, ml_python
from duologue.cli.local.readiness import ask_models, check_models, is_ready, is_serving
from duologue.cli.local.supervisor import Supervisor
from duologue.cli.output import AsJson, Failure, console, literal, print_json, printable
from duologue.contracts.v1 import campaign_pb2
from duologue.contracts.v1.dialogue_pb2 import AdapterRef
from duologue.contracts.v1.roleplay_pb2 import ModelStatus

_LEAST_FREE_GIB = 2.0
_ANSWER_SECONDS = 3.0
# The service asks MLflow meanwhile.
_TRACKING_SECONDS = 30.0


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. `fix` is empty when it is well."""

    subject: str
    state: str
    fix: str = ""

    @property
    def is_well(self) -> bool:
        return not self.fix


Services = Annotated[
    list[str],
    typer.Option(
        "--service", help="NAME=HOST:PORT of a service that runs elsewhere; of role-play, its models as well."
    ),
]


def doctor(services: Services = [], as_json: AsJson = False) -> None:  # noqa: B006 - typer reads it, nobody writes it
    """Look at the machine, the services, the models and the dead letters. Exit status 1 when something is wrong.

    With DUOLOGUE_ADDRESS it looks at the control plane there instead of at this machine, and at the services named.

    Examples: duologue doctor; duologue doctor --service roleplay=duo-duologue-roleplay:7401
    """
    elsewhere = ADDRESS_VARIABLE in os.environ
    if services and not elsewhere:
        raise Failure(f"--service is for services elsewhere: set {ADDRESS_VARIABLE} to the campaign service's.", 2)
    findings = list(_findings_elsewhere(services) if elsewhere else _findings())
    if as_json:
        print_json({"findings": [asdict(finding) | {"ok": finding.is_well} for finding in findings]})
    else:
        for finding in findings:
            mark = "[green]ok  [/]" if finding.is_well else "[red]bad [/]"
            console.print(f"{mark} {finding.subject}: {literal(finding.state)}", soft_wrap=True)
            for line in finding.fix.splitlines():
                console.print(f"       {printable(line.strip())}", markup=False, soft_wrap=True)
    if not all(finding.is_well for finding in findings):
        raise typer.Exit(1)


def _findings() -> Iterator[Finding]:
    layout = Layout.here()
    yield Finding("python", f"{sys.version.split()[0]} at {sys.prefix}")
    yield Finding("environment with torch", str(ml_python() or "none"), missing_ml_python())
    yield _disk(layout)
    states = Supervisor(layout).states()
    if states is None:
        yield Finding("services", "none run", f"Start them with `{command('up')}`.")
        return
    for process in states:
        ready = is_ready(process.name, layout.ports)
        fix = (
            ""
            if ready
            else f"It is {process.state.lower()} ({process.note}): see {layout.logs / (process.name + '.log')}."
        )
        yield Finding(process.name, "serves" if ready else "does not serve", fix)
    yield from _models(partial(check_models, layout))
    yield from _tracking()
    yield _letters()


def _findings_elsewhere(services: list[str]) -> Iterator[Finding]:
    addresses = dict(_address_of(service) for service in services)
    if is_serving(campaign_address()):
        yield Finding("campaign", f"serves at {campaign_address()}")
        yield from _tracking()
    else:
        yield Finding("campaign", "does not serve", f"Nothing that answers is at {campaign_address()}: see its log.")
    for name, address in addresses.items():
        serves = is_serving(address)
        fix = "" if serves else f"Nothing that answers is at {address}: see its log."
        yield Finding(name, f"serves at {address}" if serves else "does not serve", fix)
    if "roleplay" in addresses:
        yield from _models(partial(ask_models, addresses["roleplay"]))
    if bus_settings().bus.url.startswith("kafka:"):
        yield _letters()


def _address_of(service: str) -> tuple[str, str]:
    name, equals, address = service.partition("=")
    if not (name and equals and ":" in address):
        raise Failure(f"--service {service}: write it as NAME=HOST:PORT.", 2)
    return name, address


def _disk(layout: Layout) -> Finding:
    folder = layout.home if layout.home.exists() else layout.home.parent
    free = shutil.disk_usage(folder).free / 2**30
    fix = "" if free > _LEAST_FREE_GIB else "Make room: dialogues, logs and adapters are kept there."
    return Finding("disk", f"{free:.1f} GiB free for {layout.home}", fix)


def _letters() -> Finding:
    try:
        letters = count_letters()
    except Failure as failure:
        return Finding("dead letters", "not counted", str(failure))
    fix = f"See why: `{command('dlq list')}`; after mending, `{command('dlq replay --all')}`." if letters else ""
    return Finding("dead letters", f"{letters} in {bus_settings().bus.url}", fix)


def _models(ask: Callable[[list[AdapterRef]], list[ModelStatus]]) -> Iterator[Finding]:
    adapters: list[AdapterRef] = []
    try:
        adapters = _released_adapters()
    except grpc.RpcError as error:
        yield Finding("adapters", "not asked", f"The campaign service does not answer: {error.details()}")
    try:
        statuses = ask(adapters)
    except Failure as failure:
        yield Finding("models", "not asked", str(failure))
        return
    except grpc.RpcError as error:
        yield Finding("models", "not asked", f"The role-play service does not answer: {error.details()}")
        return
    for status in statuses:
        subject = "adapter" if status.part == "adapter" else f"{status.part} model"
        if status.ok:
            found = f" ({status.found})" if status.found else ""
            yield Finding(subject, f"{status.model} at {status.url}{found} answers in {status.seconds:.2f} s")
        else:
            yield Finding(subject, f"{status.model!r} at {status.url} is not as it should be", status.problem)


def _tracking() -> Iterator[Finding]:
    """Nothing where MLflow is not to be told."""
    try:
        with campaign_service() as service:
            found = service.GetTracking(campaign_pb2.GetTrackingRequest(), timeout=_TRACKING_SECONDS)
    except grpc.RpcError as error:
        yield Finding("mlflow", "not asked", f"The campaign service does not answer: {error.details()}")
        return
    if found.url:
        behind = f"{found.due} campaigns and agents to tell of" if found.due else "told of everything"
        yield Finding("mlflow", f"{behind}, at {found.url}", found.problem)


def _released_adapters() -> list[AdapterRef]:
    """Those that answer now, for a share or for all, and that the agent's servers must have. Raises `grpc.RpcError`."""
    with campaign_service() as service:
        adapters = service.ListAdapters(campaign_pb2.ListAdaptersRequest(), timeout=_ANSWER_SECONDS).adapters
    return [adapter.ref for adapter in adapters if adapter.state == "released" or is_canary(adapter)]
