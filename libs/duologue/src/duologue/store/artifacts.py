"""Artifacts: datasets, adapters, workflows, reports. A folder, S3 or GCS, by fsspec."""

from __future__ import annotations

import hashlib
import os
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import fsspec

from duologue.core.problems import InvalidInput, Problem, WrongSetting

# What file systems take: bytes of a file's name, and characters of a path, with room for the store's own.
_LONGEST_PART = 240
_LONGEST_URI = 1024
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,199}")


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
    """Files below one root. What can be read is whole, and durable. Calls block: run long ones in a thread."""

    def __init__(self, root: str) -> None:
        """`root`: a folder or an fsspec URL such as s3://bucket/prefix. Raises `WrongSetting` for another."""
        try:
            self._fs, self._root = fsspec.core.url_to_fs(root)
        except (ValueError, ImportError) as error:
            scheme = root.partition("://")[0]
            raise WrongSetting(
                f'setting artifacts.url: there is no store "{scheme}" ({error}); use a folder or s3://bucket/prefix'
            ) from error

    def local_path(self, uri: str) -> Path | None:
        """The artifact as a local path, where the store is a local folder."""
        local = "file" in (self._fs.protocol if isinstance(self._fs.protocol, tuple) else (self._fs.protocol,))
        return Path(self._at(uri)) if local else None

    def write(self, uri: str, data: bytes) -> StoredArtifact:
        """Write a file, or replace it."""
        local = self.local_path(uri)
        if local is not None:
            _write_durably(local, data)
        else:
            self._fs.pipe_file(self._at(uri), data)  # of object stores, a put is seen whole or not at all
        return StoredArtifact(uri, hashlib.sha256(data).hexdigest())

    def write_folder(self, uri: str, source: Path) -> StoredArtifact:
        """Copy a local folder with all below it."""
        hashes = {}
        for path in sorted(path for path in source.rglob("*") if path.is_file()):
            name = path.relative_to(source).as_posix()
            hashes[name] = self.write(f"{uri}/{name}", path.read_bytes()).sha256
        return StoredArtifact(uri, listing_sha256(hashes))

    def read(self, uri: str, sha256: str = "") -> bytes:
        """The bytes of a file.

        Raises FileNotFoundError, `ArtifactDamaged` when they don't have the given hash, and `InvalidInput` where no
        file can be.
        """
        try:
            data: bytes = self._fs.cat_file(self._at(uri))
        except (IsADirectoryError, NotADirectoryError) as error:
            raise InvalidInput(
                [Problem(repr(uri), 0, "is no artifact: it names a folder, or a file as one")]
            ) from error
        if sha256 and hashlib.sha256(data).hexdigest() != sha256:
            raise ArtifactDamaged(f"{uri} does not have the SHA-256 {sha256} that it was written with")
        return data

    def stored(self, uri: str) -> StoredArtifact:
        """A file that is there, with the hash of its bytes."""
        return StoredArtifact(uri, hashlib.sha256(self.read(uri)).hexdigest())

    def exists(self, uri: str) -> bool:
        return bool(self._fs.exists(self._at(uri)))

    def _at(self, uri: str) -> str:
        path = PurePosixPath(uri)
        if path.is_absolute() or ".." in path.parts or not path.parts:
            raise InvalidInput([Problem(repr(uri), 0, "is no artifact: it leads outside the store")])
        if "\0" in uri or any(len(part.encode()) > _LONGEST_PART for part in path.parts) or len(uri) > _LONGEST_URI:
            raise InvalidInput([Problem(repr(uri[:100]), 0, "is no artifact: no file can have that name")])
        return f"{self._root.rstrip('/')}/{path}"


def _write_durably(target: Path, data: bytes) -> None:
    """Under a temporary name, then renamed; on disk when this returns, because what refers to it will be."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f"{target.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
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
