"""Where the services are, and channels to them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import grpc

from duologue.cli.invocation import command
from duologue.cli.local.layout import Layout
from duologue.cli.output import Failure
from duologue.contracts.v1 import campaign_pb2_grpc
from duologue.runtime.channel import open_blocking_channel
from duologue.runtime.settings import PREFIX, ServiceSettings, load_settings

# For commands against services elsewhere; on one machine the address is the one that `up` wrote down.
ADDRESS_VARIABLE = "DUOLOGUE_ADDRESS"

_MAX_MESSAGE_BYTES = 64 * 1024 * 1024
_OPTIONS = [("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES)]
_REFUSED = 2


def campaign_address() -> str:
    return os.environ.get(ADDRESS_VARIABLE) or f"127.0.0.1:{Layout.here().ports.campaign}"


@contextmanager
def campaign_service() -> Iterator[campaign_pb2_grpc.CampaignServiceStub]:
    with channel_to(campaign_address()) as channel:
        yield campaign_pb2_grpc.CampaignServiceStub(channel)


def channel_to(address: str) -> grpc.Channel:
    """As a service that calls another would be told: encrypted, with a certificate and a token, or plain."""
    return open_blocking_channel(address, load_settings(ServiceSettings, []).grpc, _OPTIONS)


def unreachable(details: str) -> Failure:
    """What to say when the campaign service did not answer, from what gRPC says of it."""
    for sign, what, fix in _SIGNS:
        if sign in details:
            return _refused(what, fix)
    if _HANGS_UP.intersection(details.split(": ")) and "failed to connect" in details:
        return _refused(*(_WANTS_CERTIFICATE if load_settings(ServiceSettings, []).grpc.tls else _WANTS_TLS))
    return Failure(
        f"The campaign service does not answer at {campaign_address()}.\n"
        f"    Start the services with `{command('up')}`; `{command('status')}` says what runs."
    )


def unknown_caller(details: str) -> Failure:
    return _refused(
        f"refuses the call: {details}", f"Set {_variable('token_file')} to a file with a token that it accepts."
    )


def _refused(what: str, fix: str) -> Failure:
    return Failure(f"The campaign service at {campaign_address()} {what}.\n    {fix}", _REFUSED)


def _variable(setting: str) -> str:
    return f"{PREFIX}GRPC__{setting.upper()}"


# What gRPC says, what that means, and what to do.
_SIGNS = (
    (
        "CERTIFICATE_VERIFY_FAILED: certificate has expired",
        "shows a certificate that has expired",
        "It must be renewed there; the service takes up the new one without a restart.",
    ),
    (
        "CERTIFICATE_VERIFY_FAILED",
        "shows a certificate that is not trusted",
        f"Set {_variable('ca_file')} to the certificate of the authority that issued it.",
    ),
    (
        "Hostname Verification Check failed",
        "shows a certificate that names another host",
        f"Set {ADDRESS_VARIABLE} to that host or, behind a forwarded port, {_variable('server_name')} to its name.",
    ),
    ("WRONG_VERSION_NUMBER", "does not speak TLS", f"Unset {_variable('tls')}."),
)
_HANGS_UP = {"Socket closed", "recvmsg:Connection reset by peer", "Connection reset by peer"}
_WANTS_TLS = ("hangs up", f"It may speak TLS only: set {_variable('tls')}=true.")
_WANTS_CERTIFICATE = (
    "hangs up on our certificate, or for want of one",
    f"Set {_variable('certificate_file')} and {_variable('key_file')} to one that it accepts and that has not expired.",
)
