"""Artifacts: datasets, adapters, workflows, reports. A folder, S3, GCS, or another store that fsspec knows."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import BinaryIO, Self

import structlog

from duologue.core.problems import InvalidInput, Problem, WrongSetting
from duologue.store.file_system import ArtifactsRefused, ArtifactsUnavailable, FileSystem
from duologue.store.options import S3Options

log = structlog.get_logger(__name__)

# What file systems take: bytes of a file's name, and characters of a path, with room for the store's own.
_LONGEST_PART = 240
_LONGEST_URI = 1024
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,199}")

_CHUNK = 1 << 20
# Of an upload in parts, two are in memory. S3 takes 10,000 of them.
_LEAST_PART = 16 << 20
_MOST_PARTS = 9_000


@dataclass(frozen=True, slots=True)
class StoredArtifact:
    """Where an artifact lies, relative to the store, and the SHA-256 of its bytes, or a folder's `listing_sha256`."""

    uri: str
    sha256: str


class ArtifactDamaged(Exception):
    """The bytes are not those that were written."""


def check_name(field: str, name: str) -> None:
    """Raises `InvalidInput` for the name of a dataset or an adapter that can't be the name of its folder."""
    if not _NAME.fullmatch(name):
        message = f'"{name}" is no name: 1 to 200 letters, digits, ".", "_" and "-", a letter or digit first'
        raise InvalidInput([Problem(field, 0, message)])


def listing_sha256(hashes: Mapping[str, str]) -> str:
    """One SHA-256 for several files, given theirs by relative name: of the lines `sha256  name`, sorted by name."""
    lines = [f"{sha256}  {name}" for name, sha256 in sorted(hashes.items())]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


class ArtifactStore:
    """Files below one root. What can be read is whole, and durable. Calls block: run long ones in a thread.

    A store that is no local folder raises `ArtifactsUnavailable` where it does not do what it is asked.
    """

    def __init__(self, root: str, s3: S3Options | None = None) -> None:
        """`root`: a folder or an fsspec URL such as s3://bucket/prefix. Raises `WrongSetting` for another."""
        self._files = FileSystem(root, s3 or S3Options())
        self._fs = self._files.fs

    async def __aenter__(self) -> Self:
        """Raises `WrongSetting` where credentials or bucket are wrong. A store that is away may come back."""
        if not self._files.is_local:
            try:
                await asyncio.to_thread(self.exists, "workflows")
            except ArtifactsRefused as error:
                raise WrongSetting(str(error)) from error
            except ArtifactsUnavailable as error:
                log.warning("starts without the artifact store", reason=str(error))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Nothing is held open between calls."""

    def url_of(self, uri: str) -> str:
        """The artifact as others outside find it: an absolute path, or a URL."""
        local = self.local_path(uri)
        return str(local.absolute()) if local is not None else f"{self._files.url}/{PurePosixPath(uri)}"

    def local_path(self, uri: str) -> Path | None:
        """The artifact as a local path, where the store is a local folder."""
        return Path(self._at(uri)) if self._files.is_local else None

    def write(self, uri: str, data: bytes) -> StoredArtifact:
        """Write a file, or replace it."""
        local = self.local_path(uri)
        if local is not None:
            with _replacing(local) as file:
                file.write(data)
        else:
            with self._uploading(uri) as path:
                self._fs.pipe_file(path, data)
        return StoredArtifact(uri, hashlib.sha256(data).hexdigest())

    def write_file(self, uri: str, source: Path) -> StoredArtifact:
        """Copy a local file of any size."""
        local = self.local_path(uri)
        if local is not None:
            with _replacing(local) as file:
                return StoredArtifact(uri, _passed_on(_chunks_of(source), file))
        part = max(_LEAST_PART, source.stat().st_size // _MOST_PARTS)
        with self._uploading(uri) as path:
            self._fs.put_file(str(source), path, **({"chunksize": part} if self._files.is_object_store else {}))
        return StoredArtifact(uri, _passed_on(_chunks_of(source)))

    def write_folder(self, uri: str, source: Path) -> StoredArtifact:
        """Copy a local folder with all below it."""
        hashes = {}
        for path in sorted(path for path in source.rglob("*") if path.is_file()):
            name = path.relative_to(source).as_posix()
            hashes[name] = self.write_file(f"{uri}/{name}", path).sha256
        return StoredArtifact(uri, listing_sha256(hashes))

    def read(self, uri: str, sha256: str = "") -> bytes:
        """The bytes of a file that fits into memory.

        Raises FileNotFoundError, `ArtifactDamaged` when they don't have the given hash, and `InvalidInput` where no
        file can be.
        """
        path = self._at(uri)
        with self._reading(uri):
            data: bytes = self._fs.cat_file(path)
        _check_hash(uri, hashlib.sha256(data).hexdigest(), sha256)
        return data

    def fetch(self, uri: str, target: Path, sha256: str = "") -> StoredArtifact:
        """Copy a file of any size to a local one. What is wrong is raised as by `read`, and leaves the target alone."""
        with _replacing(target) as file:
            found = _passed_on(self._chunks(uri), file)
            _check_hash(uri, found, sha256)
        return StoredArtifact(uri, found)

    def stored(self, uri: str) -> StoredArtifact:
        """A file that is there, with the hash of its bytes."""
        return StoredArtifact(uri, _passed_on(self._chunks(uri)))

    def exists(self, uri: str) -> bool:
        path = self._at(uri)
        try:
            with self._files.asked():
                self._fs.info(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    @contextmanager
    def _uploading(self, uri: str) -> Iterator[str]:
        """Where to put what shall be at `uri` when the block ends well, whole and at once."""
        path = self._at(uri)
        with self._files.asked():
            if self._files.is_object_store:
                yield path
                return
            temporary = f"{path}.{uuid.uuid4().hex[:8]}.tmp"
            self._fs.makedirs(path.rpartition("/")[0], exist_ok=True)
            try:
                yield temporary
                self._fs.mv(temporary, path)
            except BaseException:
                if self._fs.exists(temporary):
                    self._fs.rm_file(temporary)
                raise

    @contextmanager
    def _reading(self, uri: str) -> Iterator[None]:
        try:
            with self._files.asked():
                yield
        except (IsADirectoryError, NotADirectoryError) as error:
            raise InvalidInput(
                [Problem(repr(uri), 0, "is no artifact: it names a folder, or a file as one")]
            ) from error

    def _chunks(self, uri: str) -> Iterator[bytes]:
        path = self._at(uri)
        with self._reading(uri):
            file = self._fs.open(path, "rb", block_size=_LEAST_PART)
        with file:
            while True:
                with self._reading(uri):
                    chunk = file.read(_CHUNK)
                if not chunk:
                    return
                yield chunk

    def _at(self, uri: str) -> str:
        path = PurePosixPath(uri)
        if path.is_absolute() or ".." in path.parts or not path.parts:
            raise InvalidInput([Problem(repr(uri), 0, "is no artifact: it leads outside the store")])
        if "\0" in uri or any(len(part.encode()) > _LONGEST_PART for part in path.parts) or len(uri) > _LONGEST_URI:
            raise InvalidInput([Problem(repr(uri[:100]), 0, "is no artifact: no file can have that name")])
        return f"{self._files.root.rstrip('/')}/{path}"


@contextmanager
def _replacing(target: Path) -> Iterator[BinaryIO]:
    """A file that takes the target's place when the block ends well.

    It is written under a temporary name, then renamed; on disk by then, because what refers to it will be.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f"{target.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _chunks_of(source: Path) -> Iterator[bytes]:
    with source.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk


def _passed_on(chunks: Iterator[bytes], file: BinaryIO | None = None) -> str:
    """The hash of bytes, which go into `file` as they come."""
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
        if file is not None:
            file.write(chunk)
    return digest.hexdigest()


def _check_hash(uri: str, found: str, sha256: str) -> None:
    if sha256 and found != sha256:
        raise ArtifactDamaged(f"{uri} does not have the SHA-256 {sha256} that it was written with")
