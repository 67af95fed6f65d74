"""Artifact stores that are no folder: what is told of one that is away, refuses us, or is set up wrongly."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest
import structlog

from duologue.bus import Transient
from duologue.core.problems import InvalidInput, WrongSetting
from duologue.runtime.failures import classify_errors
from duologue.store import ArtifactsRefused, ArtifactStore, ArtifactsUnavailable
from duologue.store.options import S3Options
from tests.support.brokers.cluster import free_ports
from tests.support.eventually import soon
from tests.support.object_stores import GCS_BUCKET, REGION, S3Server

UPLOAD = """
import sys
from pathlib import Path
from duologue.store import ArtifactStore
from duologue.store.options import S3Options
store = ArtifactStore(sys.argv[1], S3Options(sys.argv[2], sys.argv[3], path_style=True))
while True:
    store.write_file("big.bin", Path(sys.argv[4]))
"""


def store_of(server: S3Server, bucket: str) -> ArtifactStore:
    return ArtifactStore(f"s3://{bucket}/team", server.options)


async def test_a_bucket_that_does_not_exist_is_told_at_the_start_and_with_every_call(s3: S3Server) -> None:
    store = store_of(s3, "no-such-bucket")
    with pytest.raises(WrongSetting, match=r"there is no bucket no-such-bucket: .* setting artifacts\.url"):
        await store.__aenter__()
    for call in (lambda: store.write("a", b""), lambda: store.read("a"), lambda: store.exists("a")):
        with pytest.raises(ArtifactsRefused, match="there is no bucket no-such-bucket"):
            call()


def test_a_service_that_finds_no_bucket_ends_with_what_to_mend(s3: S3Server, tmp_path: Path) -> None:
    settings = {
        "DUOLOGUE_ARTIFACTS__URL": "s3://no-such-bucket",
        "DUOLOGUE_ARTIFACTS__S3__ENDPOINT_URL": s3.url,
        "DUOLOGUE_ARTIFACTS__S3__PATH_STYLE": "true",
        "DUOLOGUE_BUS_URL": f"sqlite:///{tmp_path / 'bus.db'}",
    }
    command = [sys.executable, "-m", "duologue_scoring"]
    done = subprocess.run(
        command, env={**os.environ, **settings}, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        "there is no bucket no-such-bucket: make it, or mend setting artifacts.url (s3://no-such-bucket)"
    )


async def test_a_bucket_of_gcs_that_does_not_exist_is_told_as_well(gcs: str) -> None:
    store = ArtifactStore(gcs.replace(GCS_BUCKET, "no-such-bucket"))
    with pytest.raises(WrongSetting, match="there is no bucket no-such-bucket"):
        await store.__aenter__()
    with pytest.raises(ArtifactsRefused, match="there is no bucket no-such-bucket"):
        store.write("a", b"")


@pytest.mark.parametrize("variable", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
async def test_wrong_keys_are_told_at_the_start_and_with_every_call(
    s3: S3Server, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = s3.new_bucket()
    monkeypatch.setenv(variable, "A" * 20)
    store = store_of(s3, bucket)
    with pytest.raises(WrongSetting, match=rf"s3://{bucket}/team \(setting artifacts.url\) refuses us: .*Credentials"):
        await store.__aenter__()
    for call in (lambda: store.write("a", b""), lambda: store.read("a"), lambda: store.exists("a")):
        with pytest.raises(ArtifactsRefused, match="refuses us"):
            call()


async def test_no_keys_at_all_are_told_at_the_start(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = s3.new_bucket()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, "/nowhere")
    with pytest.raises(WrongSetting, match="refuses us: NoCredentialsError"):
        await store_of(s3, bucket).__aenter__()


async def test_a_store_that_is_away_is_started_without_and_used_once_it_is_back(own_s3: S3Server) -> None:
    bucket = own_s3.new_bucket()
    store = store_of(own_s3, bucket)
    store.write("a", b"bytes")
    own_s3.kill()
    with pytest.raises(ArtifactsUnavailable, match="does not answer") as away:
        store.read("a")
    assert not isinstance(away.value, ArtifactsRefused)
    with structlog.testing.capture_logs() as logs:
        async with store_of(own_s3, bucket) as beside:
            assert [line["event"] for line in logs] == ["starts without the artifact store"]
            own_s3.restart(bucket)
            assert beside.write("a", b"more") == store.stored("a")
    assert not store.exists("b")


def test_whoever_works_off_a_record_tries_again_when_the_store_is_away(s3: S3Server) -> None:
    (port,) = free_ports(1)  # with credentials, for nobody
    store = ArtifactStore("s3://bucket", S3Options(f"http://127.0.0.1:{port}", REGION))
    with pytest.raises(Transient, match="does not answer"), classify_errors():
        store.read("a")


def test_a_writer_that_is_killed_in_an_upload_of_many_parts_leaves_what_was_there(s3: S3Server, tmp_path: Path) -> None:
    bucket = s3.new_bucket()
    store = store_of(s3, bucket)
    before = store.write("big.bin", b"as it was")
    source = tmp_path / "source"
    source.write_bytes(os.urandom(1 << 20) * 400)
    command = [sys.executable, "-c", UPLOAD, f"s3://{bucket}/team", s3.url, REGION, source]
    writer = subprocess.Popen(command)
    client = s3.client()
    soon(lambda: client.list_multipart_uploads(Bucket=bucket).get("Uploads"), "an upload is under way")
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    assert store.stored("big.bin") == before


def test_a_large_file_is_never_whole_in_memory(s3: S3Server, tmp_path: Path) -> None:
    store = store_of(s3, s3.new_bucket())
    source = tmp_path / "source"
    source.write_bytes(os.urandom(1 << 20) * 160)
    store.write("small", b"")  # what the client takes by itself is there by then
    tracemalloc.start()
    stored = store.write_file("big", source)
    store.fetch("big", tmp_path / "target", stored.sha256)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 80 << 20


@pytest.mark.parametrize(
    "url",
    [
        "s3://AKIA:secret@bucket/prefix",
        "s3://AKIA@bucket",
        "gs://someone@bucket",
        "sftp://me:secret@host/folder",
        "s3://bucket/prefix?secret=secret",
        "https://host/?token=secret",
    ],
)
def test_credentials_in_the_url_are_refused_and_not_shown(url: str) -> None:
    with pytest.raises(WrongSetting, match=r"setting artifacts\.url carries credentials") as refused:
        ArtifactStore(url)
    assert "AKIA" not in str(refused.value)
    assert "secret@" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "told"),
    [("nothing://x", 'there is no store "nothing"'), ("s3://", "names no bucket"), ("gs:///prefix", "names no bucket")],
)
def test_a_url_that_is_no_store_is_refused(url: str, told: str) -> None:
    with pytest.raises(WrongSetting, match=told):
        ArtifactStore(url)


def test_a_uri_that_is_none_is_no_fault_of_the_store(s3: S3Server) -> None:
    store = store_of(s3, s3.new_bucket())
    with pytest.raises(InvalidInput, match="leads outside the store"):
        store.read("../x")
    assert store.url_of("adapters/x").endswith("/team/adapters/x")
