"""Object stores as processes beside the tests: moto's, which speaks S3 and checks who asks, and an emulator of GCS."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from duologue.store.options import S3Options
from tests.support.brokers.cluster import free_ports
from tests.support.eventually import soon

REGION = "eu-central-1"
GCS_BUCKET = "duologue"
_START_SECONDS = 60.0
_ALL = '{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}'
# So many requests make the user that all others are checked against.
_UNCHECKED = 3


@dataclass
class S3Server:
    """moto's server, to be killed and started again; what it holds is gone then."""

    port: int
    log: Path
    process: subprocess.Popen[bytes]
    key: str = ""
    secret: str = ""

    @classmethod
    def start(cls, folder: Path) -> S3Server:
        (port,) = free_ports(1)
        log = folder / "moto.log"
        server = cls(port, log, _run(port, log, INITIAL_NO_AUTH_ACTION_COUNT=str(_UNCHECKED)))
        server.wait()
        server.let_in()
        return server

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def options(self) -> S3Options:
        return S3Options(self.url, REGION, path_style=True)

    @property
    def credentials(self) -> dict[str, str]:
        """As the AWS SDK finds them in the environment."""
        return {
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def client(self, service: str = "s3") -> Any:
        import botocore.session  # most tests need none of it, and wait for none of it

        return botocore.session.Session().create_client(
            service,
            region_name=REGION,
            endpoint_url=self.url,
            aws_access_key_id=self.key or "nobody",
            aws_secret_access_key=self.secret or "nothing",
        )

    def new_bucket(self) -> str:
        name = f"bucket-{uuid.uuid4()}"
        self._make(name)
        return name

    def let_in(self) -> None:
        """Make the one user that it lets in."""
        self.client("iam").create_user(UserName="duologue")
        made = self.client("iam").create_access_key(UserName="duologue")["AccessKey"]
        self.client("iam").put_user_policy(UserName="duologue", PolicyName="all", PolicyDocument=_ALL)
        self.key, self.secret = made["AccessKeyId"], made["SecretAccessKey"]

    def wait(self) -> None:
        """Until it listens."""
        _listens(self.process, self.port, self.log)

    def restart(self, bucket: str) -> None:
        """On the same port, empty but for a bucket, and with doors open to everybody."""
        self.process = _run(self.port, self.log)
        self.wait()
        self._make(bucket)

    def _make(self, bucket: str) -> None:
        self.client().create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="session")
def gcs_of_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of an emulator that lets in everybody."""
    (port,) = free_ports(1)
    log = tmp_path_factory.mktemp("gcs") / "emulator.log"
    places = ["--host=127.0.0.1", f"--port={port}", "--in-memory", f"--default-bucket={GCS_BUCKET}"]
    with log.open("wb") as out:
        command = [sys.executable, "-m", "gcp_storage_emulator", "start", *places]
        process = subprocess.Popen(command, stdout=out, stderr=out)
    _listens(process, port, log)
    yield f"http://127.0.0.1:{port}"
    process.kill()
    process.wait()


@pytest.fixture
def gcs(gcs_of_all: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a new, empty folder there."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gcs_of_all)
    monkeypatch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")  # asks Google itself what kind of bucket it is
    return f"gs://{GCS_BUCKET}/{uuid.uuid4()}"


def _listens(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Returns when it does."""

    def is_open() -> bool:
        if process.poll() is not None:
            raise RuntimeError(f"it ended:\n{log.read_text()[-2000:]}")
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    soon(is_open, f"port {port} is listened on", _START_SECONDS)


def _run(port: int, log: Path, **variables: str) -> subprocess.Popen[bytes]:
    with log.open("ab") as out:
        return subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
            env={**os.environ, **variables},
            stdout=out,
            stderr=out,
        )


@pytest.fixture(scope="session")
def s3_of_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """One server for all tests that don't kill it."""
    server = S3Server.start(tmp_path_factory.mktemp("s3"))
    yield server
    server.kill()


@pytest.fixture
def s3(s3_of_all: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """With its credentials in the environment."""
    return _known_to(s3_of_all, monkeypatch)


@pytest.fixture
def own_s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    """A server that the test may kill."""
    server = S3Server.start(tmp_path)
    yield _known_to(server, monkeypatch)
    server.kill()


def _known_to(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    for name in ("AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in server.credentials.items():
        monkeypatch.setenv(name, value)
    return server
