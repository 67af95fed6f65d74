"""Commands against a control plane that asks who is there."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from duologue.contracts.v1 import campaign_pb2 as pb
from duologue.contracts.v1 import campaign_pb2_grpc
from duologue.runtime.server import Server
from duologue.runtime.settings import GrpcSettings
from tests.support.certificates import HERE, Authority
from tests.support.command import duologue, duologue_beside
from tests.support.requirements import ROOT


class NoCampaigns(campaign_pb2_grpc.CampaignServiceServicer):
    async def ListCampaigns(  # noqa: N802
        self, request: pb.ListCampaignsRequest, context: Any
    ) -> pb.ListCampaignsResponse:
        return pb.ListCampaignsResponse()


@asynccontextmanager
async def serving(patch: pytest.MonkeyPatch, **settings: Any) -> AsyncIterator[None]:
    """A control plane, whose address commands know."""
    server = Server(GrpcSettings(**settings), asyncio.Event())
    server.add(
        campaign_pb2_grpc.add_CampaignServiceServicer_to_server,
        NoCampaigns(),
        pb.DESCRIPTOR.services_by_name["CampaignService"],
    )
    patch.setenv("DUOLOGUE_ADDRESS", f"127.0.0.1:{await server.start()}")
    yield
    await server.stop(0)


class Files:
    """Certificates and tokens, as settings."""

    def __init__(self, folder: Path) -> None:
        self.ours = Authority(folder, "ours")
        self.other = Authority(folder, "other")
        service, client = self.ours.issue("service", *HERE), self.ours.issue("client")
        late, elsewhere = self.ours.issue("late", *HERE, is_expired=True), self.ours.issue("elsewhere", "c.example")
        self.service = {"tls": True, "certificate_file": service.certificate, "key_file": service.key}
        self.late = {"tls": True, "certificate_file": late.certificate, "key_file": late.key}
        self.elsewhere = {"tls": True, "certificate_file": elsewhere.certificate, "key_file": elsewhere.key}
        self.mutual = {**self.service, "ca_file": self.ours.file, "require_client_certificate": True}
        self.trust = {"tls": True, "ca_file": self.ours.file}
        self.mistrust = {"tls": True, "ca_file": self.other.file}
        self.client = {**self.trust, "certificate_file": client.certificate, "key_file": client.key}
        self.late_client = {**self.trust, "certificate_file": late.certificate, "key_file": late.key}
        self.token, self.other_token = {"token_file": folder / "token"}, {"token_file": folder / "other-token"}
        (folder / "token").write_text("s3cret-token\n")
        (folder / "other-token").write_text("s3cret-other\n")


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def know(patch: pytest.MonkeyPatch, settings: dict[str, Any]) -> None:
    for name, value in settings.items():
        patch.setenv(f"DUOLOGUE_GRPC__{name.upper()}", str(value))


@pytest.mark.parametrize(
    ("service", "person"),
    [
        ("service", ["trust"]),
        ("mutual", ["client"]),
        ("mutual token", ["client", "token"]),
        ("token", ["token"]),
    ],
)
async def test_a_person_with_the_right_settings_is_answered(
    files: Files, monkeypatch: pytest.MonkeyPatch, service: str, person: list[str]
) -> None:
    settings = {name: str(value) for part in service.split() for name, value in getattr(files, part).items()}
    async with serving(monkeypatch, **settings):
        for part in person:
            know(monkeypatch, getattr(files, part))
        done = await duologue_beside("campaign", "list", "--json")
    assert (done.status, done.err) == (0, "")
    assert done.json == {"campaigns": []}


@pytest.mark.parametrize(
    ("service", "person", "said"),
    [
        ("service", "mistrust", ["shows a certificate that is not trusted", "Set DUOLOGUE_GRPC__CA_FILE"]),
        ("late", "trust", ["shows a certificate that has expired", "renewed"]),
        ("elsewhere", "trust", ["names another host", "DUOLOGUE_ADDRESS", "DUOLOGUE_GRPC__SERVER_NAME"]),
        ("service", "", ["hangs up", "set DUOLOGUE_GRPC__TLS=true"]),
        ("", "trust", ["does not speak TLS", "Unset DUOLOGUE_GRPC__TLS"]),
        ("mutual", "trust", ["for want of one", "DUOLOGUE_GRPC__CERTIFICATE_FILE and DUOLOGUE_GRPC__KEY_FILE"]),
        ("mutual", "late_client", ["hangs up on our certificate", "has not expired"]),
        ("token", "", ["refuses the call: the call has no token", "Set DUOLOGUE_GRPC__TOKEN_FILE"]),
        ("token", "other_token", ["the token is not one that this service accepts", "DUOLOGUE_GRPC__TOKEN_FILE"]),
    ],
)
async def test_anybody_else_hears_what_to_set(
    files: Files, monkeypatch: pytest.MonkeyPatch, service: str, person: str, said: list[str]
) -> None:
    settings = {name: str(value) for name, value in (getattr(files, service) if service else {}).items()}
    async with serving(monkeypatch, **settings):
        if person:
            know(monkeypatch, getattr(files, person))
        done = await duologue_beside("campaign", "list")
    assert (done.status, done.out) == (2, "")
    assert [words for words in said if words not in done.err] == []
    assert done.err.startswith("The campaign service at 127.0.0.1:")
    assert len(done.err.splitlines()) == 2
    assert "s3cret" not in done.err


async def test_grpc_itself_says_nothing(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(monkeypatch, **{name: str(value) for name, value in files.service.items()}):
        know(monkeypatch, files.mistrust)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "duologue.cli", "campaign", "list", cwd=ROOT, stderr=asyncio.subprocess.PIPE
        )
        _, errors = await process.communicate()
    assert process.returncode == 2
    assert errors.decode().startswith("The campaign service at 127.0.0.1:")
    assert len(errors.decode().splitlines()) == 2


def test_files_that_can_not_be_used_are_named(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    know(monkeypatch, {"token_file": "/nowhere/token"})
    done = duologue("campaign", "list")
    assert (done.status, done.out) == (2, "")
    assert done.err == "/nowhere/token can't be read: No such file or directory (setting grpc.token_file)\n"
    monkeypatch.setenv("DUOLOGUE_GRPC__KEY_FILE", "/nowhere/key")
    assert "setting grpc (or DUOLOGUE_GRPC): Value error, key_file without" in duologue("campaign", "list").err
