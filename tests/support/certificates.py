"""Certificates made for a test: authorities, and what they issue, as PEM files."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

# What a server on this machine is called.
HERE = ("localhost", "127.0.0.1")


@dataclass(frozen=True)
class Certificate:
    """A certificate with its key, in two files."""

    certificate: Path
    key: Path

    def replace_with(self, other: Certificate) -> None:
        """Write the other one into our files, as a renewal does: key and certificate one after the other."""
        self.key.write_bytes(other.key.read_bytes())
        self.certificate.write_bytes(other.certificate.read_bytes())

    def lock(self) -> None:
        """Put the key under a passphrase."""
        key = load_pem_private_key(self.key.read_bytes(), password=None)
        self.key.write_bytes(
            key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"passphrase"))
        )


class Authority:
    """A certificate authority of its own; `file` holds its certificate."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self._ca = trustme.CA(organization_name=name)
        self._folder = folder
        self.file = folder / f"{name}.pem"
        self._ca.cert_pem.write_to_path(str(self.file))

    def issue(self, name: str, *hosts: str, is_expired: bool = False) -> Certificate:
        """For these host names and addresses, or for a client; `name` is its common name, and the files'."""
        now = datetime.now(UTC)
        lifetime = (now - timedelta(days=2), now - timedelta(days=1)) if is_expired else (None, None)
        issued = self._ca.issue_cert(
            *(hosts or (f"{name}.example",)), common_name=name, not_before=lifetime[0], not_after=lifetime[1]
        )
        made = Certificate(
            self._folder / f"{self.file.stem}-{name}.pem", self._folder / f"{self.file.stem}-{name}-key.pem"
        )
        made.certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        made.key.write_bytes(_pkcs8(issued.private_key_pem.bytes()))
        return made


def _pkcs8(pem: bytes) -> bytes:
    """Kafka reads no other form."""
    key = load_pem_private_key(pem, password=None)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
