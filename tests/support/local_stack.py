"""The whole local stack under a test: `duologue up` with a home and ports of its own, driven by the command line."""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import yaml

from duologue.cli.output import plain
from duologue.contracts.v1 import campaign_pb2, campaign_pb2_grpc

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
COMMAND = Path(sys.executable).with_name("duologue")

_PORTS_OF_A_STACK = 30
# A service that is back is asked at once: in what gRPC waits by itself, a small campaign ends.
_AT_ONCE = [("grpc.min_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 100)]


@dataclass(frozen=True)
class LocalStack:
    """A running stack. Commands are run as a user runs them."""

    home: Path
    port_base: int

    def command(self, *arguments: object, status: int = 0, seconds: float = 300) -> subprocess.CompletedProcess[str]:
        """Run `duologue ...`; it must end with `status`."""
        done = subprocess.run(
            [COMMAND, *map(str, arguments)],
            env={**os.environ, "DUOLOGUE_HOME": str(self.home)},
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        assert done.returncode == status, (
            f"{arguments}: {done.returncode}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        )
        return done

    def json(self, *arguments: object, status: int = 0) -> Any:
        return json.loads(self.command(*arguments, "--json", status=status).stdout)

    def up(self, models: str) -> None:
        self.command("up", "--models", models, "--port-base", self.port_base)

    def down(self) -> None:
        self.command("down")

    def create(self, spec: Path) -> str:
        return str(self.json("campaign", "create", spec)["id"])

    def campaign(self, campaign_id: str) -> Any:
        return self.json("campaign", "show", campaign_id)

    def wait_for(self, campaign_id: str, holds: Callable[[Any], bool], seconds: float = 240) -> Any:
        """The campaign, once something holds of it. A campaign that ends otherwise, or too late, fails the test.

        Asks the service itself: a command takes a second, in which a small campaign gets far. Rides over its restart.
        """
        request = campaign_pb2.GetCampaignRequest(campaign=campaign_id)
        deadline = time.monotonic() + seconds
        with grpc.insecure_channel(f"127.0.0.1:{self.port_base + 1}", _AT_ONCE) as channel:
            service = campaign_pb2_grpc.CampaignServiceStub(channel)
            while True:
                try:
                    campaign = plain(service.GetCampaign(request, wait_for_ready=True, timeout=60).campaign)
                except grpc.RpcError as error:
                    if error.code() is not grpc.StatusCode.UNAVAILABLE:
                        raise
                    continue
                if holds(campaign):
                    return campaign
                assert not campaign["finished_at"], f"ended early: {campaign['state']}, {campaign['reason']}"
                assert time.monotonic() < deadline, f"waited {seconds} s; it stands at {campaign['history'][-1]}"
                time.sleep(0.02)  # between two questions, not instead of one

    def pid(self, process: str) -> int:
        rows = self.json("status", status=0)["processes"]
        return int(next(row["pid"] for row in rows if row["name"] == process))


def is_over(campaign: Any) -> bool:
    return bool(campaign["finished_at"])


def phase(campaign: Any) -> str:
    return str(campaign["history"][-1]["phase"]).removeprefix("ROUND_PHASE_").lower()


def free_port_base() -> int:
    """The first port of a free block. Nothing holds it until the stack is up; a clash shows itself at once."""
    blocks = range(21_000, 32_000, 100)
    for base in random.sample(blocks, len(blocks)):  # tests beside these look for one too
        if all(_is_free(base + offset) for offset in range(1, _PORTS_OF_A_STACK)):
            return base
    raise RuntimeError("no free block of ports")


def write_spec(folder: Path, name: str, **changes: Any) -> Path:
    """A small campaign over the examples, a dozen dialogues and a few pairs."""
    spec: dict[str, Any] = {
        "campaign": name,
        "workflows": {
            "training": [str(EXAMPLES / "workflows" / f"{w}.yaml") for w in ("shop_return", "bike_repair")],
            "held_out": [str(EXAMPLES / "workflows/inn_booking.yaml")],
        },
        "personas": {
            "training": [str(EXAMPLES / "personas/training.yaml")],
            "held_out": [str(EXAMPLES / "personas/held_out.yaml")],
        },
        "dialogues": 12,
        "concurrency": 6,
        "decoding": {"max_tokens": 24},
        "role_play": {"max_turns": 4},
        "filters": [{"kind": "random", "share": 0.5}],
        "training": {"rank": 4, "alpha": 8, "min_kept": 1},
        "evaluation": {"dialogues": 3},
    }
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump(spec | changes))
    return file


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
