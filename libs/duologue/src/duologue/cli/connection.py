"""Where the services are, and channels to them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import grpc

from duologue.cli.invocation import command
from duologue.cli.local.layout import Layout
from duologue.contracts.v1 import campaign_pb2_grpc

# For commands against services elsewhere; on one machine the address is the one that `up` wrote down.
ADDRESS_VARIABLE = "DUOLOGUE_ADDRESS"

_MAX_MESSAGE_BYTES = 64 * 1024 * 1024
OPTIONS = [("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES)]


def campaign_address() -> str:
    return os.environ.get(ADDRESS_VARIABLE) or f"127.0.0.1:{Layout.here().ports.campaign}"


def silence() -> str:
    """What to say when the campaign service does not answer."""
    return (
        f"The campaign service does not answer at {campaign_address()}.\n"
        f"    Start the services with `{command('up')}`; `{command('status')}` says what runs."
    )


@contextmanager
def campaign_service() -> Iterator[campaign_pb2_grpc.CampaignServiceStub]:
    with grpc.insecure_channel(campaign_address(), options=OPTIONS) as channel:
        yield campaign_pb2_grpc.CampaignServiceStub(channel)
