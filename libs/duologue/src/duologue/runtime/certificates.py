"""Certificates for gRPC, renewed without a restart."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import Any

import grpc

from duologue.core.problems import WrongSetting
from duologue.runtime.reloaded import Contents, Reloaded
from duologue.runtime.settings import GrpcSettings

_CERTIFICATE, _KEY, _CA = "grpc.certificate_file", "grpc.key_file", "grpc.ca_file"


@dataclass(frozen=True)
class Certificates:
    """PEM: our chain with its key, and the authorities whose certificates we trust. Empty: there is none of it."""

    key: bytes
    chain: bytes
    authorities: bytes

    @property
    def of_channel(self) -> grpc.ChannelCredentials:
        return grpc.ssl_channel_credentials(self.authorities or None, self.key or None, self.chain or None)

    def of_server(self, must_know_callers: bool) -> grpc.ServerCertificateConfiguration:
        authorities = self.authorities if must_know_callers else None
        return grpc.ssl_server_certificate_configuration([(self.key, self.chain)], authorities)


def load_certificates(settings: GrpcSettings) -> Reloaded[Certificates]:
    """Raises `WrongSetting` for files that can't be used."""
    named = {_CERTIFICATE: settings.certificate_file, _KEY: settings.key_file, _CA: settings.ca_file}

    def load(contents: Contents) -> Certificates:
        _check(settings)
        chain = contents.get(_CERTIFICATE, b"")
        return Certificates(contents.get(_KEY, chain), chain, contents.get(_CA, b""))

    return Reloaded({setting: file for setting, file in named.items() if file}, load)


def server_credentials(settings: GrpcSettings) -> grpc.ServerCredentials:
    """What a server shows and asks for; gRPC looks for renewed files before every handshake.

    Raises `WrongSetting` for files that can't be used.
    """
    if not settings.certificate_file:
        raise WrongSetting("grpc.tls is on: set grpc.certificate_file and grpc.key_file to what the service shows")
    certificates = load_certificates(settings)
    shown = certificates.value
    must_know = settings.require_client_certificate

    def renewed() -> Any:
        """None: as before."""
        nonlocal shown
        found = certificates.value
        if found is shown:
            return None
        shown = found
        return found.of_server(must_know)

    return grpc.dynamic_ssl_server_credentials(shown.of_server(must_know), renewed, must_know)


def _check(settings: GrpcSettings) -> None:
    """gRPC would only write a line of its own, and go on with nothing."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if settings.certificate_file:
        try:
            # A password, so that a key that wants one is refused and not asked for on the terminal.
            context.load_cert_chain(settings.certificate_file, settings.key_file or None, password="")
        except OSError as error:
            files = " and ".join(filter(None, (settings.certificate_file, settings.key_file)))
            raise WrongSetting(f"{files} can't be used: {error} (settings {_CERTIFICATE} and {_KEY})") from error
    if settings.ca_file:
        try:
            context.load_verify_locations(settings.ca_file)
        except OSError as error:
            raise WrongSetting(f"{settings.ca_file} can't be used: {error} (setting {_CA})") from error
