"""Artifacts: what can be read is whole, is what was written, and lies in the store."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from duologue.core.problems import InvalidInput
from duologue.store import (
    ArtifactDamaged,
    ArtifactStore,
    ArtifactsUnavailable,
    StoredArtifact,
    WorkflowStore,
    check_name,
)
from tests.support.desk import DESK, SHOP
from tests.support.eventually import soon
from tests.support.object_stores import S3Server

WRITER = """
import sys
from duologue.store import ArtifactStore
store = ArtifactStore(sys.argv[1])
print("ready", flush=True)
for number in range(10_000):
    store.write("big.bin", bytes([number % 256]) * 4_000_000)
"""
STORES = ("file", "memory", "s3", "gcs")


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ArtifactStore:
    """A folder, memory as a store of another kind, and servers that speak as S3 and as GCS do."""
    if request.param == "gcs":
        return ArtifactStore(request.getfixturevalue("gcs"))
    if request.param == "s3":
        server: S3Server = request.getfixturevalue("s3")
        return ArtifactStore(f"s3://{server.new_bucket()}/team/duologue", server.options)
    return ArtifactStore(str(tmp_path / "store") if request.param == "file" else f"memory://{uuid.uuid4()}")


def test_what_was_written_is_read_back_with_its_hash(store: ArtifactStore) -> None:
    stored = store.write("datasets/x/data.bin", b"bytes")
    assert (stored.uri, stored.sha256) == ("datasets/x/data.bin", sha256(b"bytes"))
    assert store.read(stored.uri, stored.sha256) == store.read(stored.uri) == b"bytes"
    assert store.stored(stored.uri) == stored
    assert store.exists(stored.uri)


def test_what_is_not_there_is_not_found(store: ArtifactStore) -> None:
    assert not store.exists("nothing")
    with pytest.raises(FileNotFoundError):
        store.read("nothing")


def test_a_file_that_is_written_again_is_replaced(store: ArtifactStore) -> None:
    store.write("a", b"longer bytes")
    assert store.write("a", b"bytes") == store.stored("a")
    assert store.read("a") == b"bytes"


def test_damage_is_found_out(store: ArtifactStore) -> None:
    stored = store.write("a/b", b"bytes")
    store.write("a/b", b"other")
    with pytest.raises(ArtifactDamaged, match=f"a/b does not have the SHA-256 {stored.sha256}"):
        store.read("a/b", stored.sha256)


@pytest.mark.parametrize("uri", ["../x", "a/../../x", "/etc/passwd", "a/..", "..", "", "."])
def test_no_uri_leads_out_of_the_store(store: ArtifactStore, uri: str) -> None:
    calls: list[Any] = [
        lambda: store.write(uri, b""),
        lambda: store.read(uri),
        lambda: store.exists(uri),
    ]
    if store.local_path("a"):
        calls.append(lambda: store.local_path(uri))
    for call in calls:
        with pytest.raises(InvalidInput, match="leads outside the store"):
            call()


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "a b", ".hidden", "-x", "a\n", "a" * 201])
def test_what_is_no_folder_s_name_is_refused_with_the_field(name: str) -> None:
    with pytest.raises(InvalidInput, match="dataset_id: "):
        check_name("dataset_id", name)


@pytest.mark.parametrize("name", ["desk-r1-0b0e7a52", "A", "0.1_x", "a" * 200])
def test_a_folder_s_name_is_let_through(name: str) -> None:
    check_name("dataset_id", name)


def test_a_folder_is_copied_with_all_below_it_and_hashed_by_its_listing(store: ArtifactStore, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "deep").mkdir(parents=True)
    (source / "b.txt").write_bytes(b"B")
    (source / "deep/a.txt").write_bytes(b"A")
    stored = store.write_folder("adapters/x", source)
    assert store.read("adapters/x/deep/a.txt") == b"A"
    listing = f"{sha256(b'B')}  b.txt\n{sha256(b'A')}  deep/a.txt"
    assert stored.sha256 == sha256(listing.encode())


def test_a_file_of_any_size_is_copied_in_and_out(store: ArtifactStore, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "deep/target"
    data = os.urandom(3 << 20) * 12  # on S3 in several parts
    source.write_bytes(data)
    stored = store.write_file("adapters/x/weights", source)
    assert stored == store.stored("adapters/x/weights")
    assert stored.sha256 == sha256(data)
    assert store.fetch("adapters/x/weights", target, stored.sha256) == stored
    assert target.read_bytes() == data


def test_what_is_damaged_or_not_there_leaves_the_local_file_alone(store: ArtifactStore, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"mine")
    store.write("a", b"bytes")
    with pytest.raises(ArtifactDamaged):
        store.fetch("a", target, sha256(b"others"))
    with pytest.raises(FileNotFoundError):
        store.fetch("b", target)
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["target"]
    assert target.read_bytes() == b"mine"


def test_of_writers_at_once_one_wins_whole(store: ArtifactStore, tmp_path: Path) -> None:
    sources = [tmp_path / f"source{number}" for number in range(4)]
    for number, source in enumerate(sources):
        source.write_bytes(bytes([number]) * 700_000)

    def write(source: Path) -> StoredArtifact | None:
        try:
            return store.write_file("a", source)
        except ArtifactsUnavailable:  # moto answers 500 to one that overwrites a key in the very moment of another
            return None

    with ThreadPoolExecutor(4) as threads:
        written = list(threads.map(lambda source: soon(lambda: write(source), "it is written").sha256, sources))
    assert store.stored("a").sha256 in written


def test_only_a_folder_has_local_paths(tmp_path: Path) -> None:
    assert ArtifactStore(str(tmp_path)).local_path("a/b") == tmp_path / "a/b"
    assert ArtifactStore(f"file://{tmp_path}").local_path("a/b") == tmp_path / "a/b"
    assert ArtifactStore("memory://x").local_path("a/b") is None


def test_a_reader_never_sees_half_of_a_file(store: ArtifactStore) -> None:
    contents = [bytes([letter]) * 300_000 for letter in b"abc"]
    hashes = {sha256(content) for content in contents}
    store.write("a", contents[0])
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            for content in contents:
                store.write("a", content)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        seen = {sha256(store.read("a")) for _ in range(200)}
    finally:
        stop.set()
        writer.join()
    assert seen <= hashes


def test_a_writer_that_is_killed_leaves_a_whole_file_or_none(tmp_path: Path) -> None:
    writer = subprocess.Popen([sys.executable, "-c", WRITER, tmp_path], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    writer.stdout.readline()
    store = ArtifactStore(str(tmp_path))
    while not store.exists("big.bin"):
        assert writer.poll() is None
    os.kill(writer.pid, signal.SIGKILL)
    writer.wait()
    data = store.read("big.bin")
    assert len(data) == 4_000_000
    assert len(set(data)) == 1


def test_a_write_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = ArtifactStore(str(tmp_path / "store"))

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "no space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="no space"):
        store.write("a/b", b"bytes")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_workflow_is_put_and_got_by_its_version(store: ArtifactStore) -> None:
    ref = WorkflowStore(store).put(DESK)
    assert (ref.id, ref.version, ref.artifact.uri) == ("parcel_desk", DESK.version, f"workflows/{DESK.version}.json")
    assert WorkflowStore(store).get(ref) == DESK


def test_a_workflow_that_was_got_once_is_kept(store: ArtifactStore) -> None:
    workflows = WorkflowStore(store)
    ref = workflows.put(DESK)
    first = workflows.get(ref)
    store.write(ref.artifact.uri, b"gone")
    assert workflows.get(ref) is first


async def test_a_workflow_is_found_beside_the_event_loop_as_it_is_got(store: ArtifactStore) -> None:
    workflows = WorkflowStore(store)
    ref = workflows.put(DESK)
    assert await workflows.find(ref) is await workflows.find(ref)
    assert await workflows.find(ref) == DESK


@pytest.mark.parametrize("content", [SHOP.to_json().encode(), b"no json", b"{}", b"\xff"])
def test_another_workflow_under_the_name_is_damage(store: ArtifactStore, content: bytes) -> None:
    ref = WorkflowStore(store).put(DESK)
    ref.artifact.sha256 = ""
    store.write(ref.artifact.uri, content)
    with pytest.raises(ArtifactDamaged, match=DESK.version):
        WorkflowStore(store).get(ref)
