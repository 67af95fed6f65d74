"""Who we are to the brokers, and who they must be. All files are read again for every connection."""

from __future__ import annotations

import base64
import json
import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kafka.errors import KafkaConnectionError
from kafka.net.sasl.oauth import AbstractTokenProvider

from duologue.bus.kafka.options import KafkaOptions
from duologue.core.problems import WrongSetting


def security_of(options: KafkaOptions) -> dict[str, Any]:
    """Settings of kafka-python. Raises `WrongSetting` for a file that can't be used."""
    transport = "SSL" if options.tls else "PLAINTEXT"
    security: dict[str, Any] = {"security_protocol": f"SASL_{transport}" if options.mechanism else transport}
    if options.tls:
        _context(options)
        security["ssl_context"] = FreshContext(options)
    if options.mechanism:
        security["sasl_mechanism"] = options.mechanism
    if options.mechanism == "OAUTHBEARER":
        _token(Path(options.token_file))
        security["sasl_oauth_token_provider"] = TokenFile(Path(options.token_file))
    elif options.mechanism:
        security |= {"sasl_plain_username": options.username, "sasl_plain_password": options.password}
    return security


class TokenFile(AbstractTokenProvider):
    """A token that somebody else keeps fresh in a file, as Kubernetes does."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def token(self) -> str:
        try:
            return _token(self._file)
        except WrongSetting as error:  # while it is replaced: the next attempt to connect may find it
            raise KafkaConnectionError(str(error)) from error


class FreshContext:
    """To kafka-python an `ssl.SSLContext`, of which it asks one thing only; renewed certificates need no restart."""

    def __init__(self, options: KafkaOptions) -> None:
        self._options = options

    def wrap_socket(self, *arguments: Any, **named: Any) -> ssl.SSLSocket:
        try:
            context = _context(self._options)
        except WrongSetting as error:
            raise KafkaConnectionError(str(error)) from error
        return context.wrap_socket(*arguments, **named)


def expiry_of(token: str) -> datetime | None:
    """When a token says that it ends; None for one that is no JWT, or never ends."""
    try:
        claims = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
        return datetime.fromtimestamp(claims["exp"], UTC)
    except (IndexError, KeyError, TypeError, ValueError, OverflowError, OSError):
        return None


def _token(file: Path) -> str:
    try:
        token = file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it holds something else than a token"
        raise WrongSetting(f"{file} can't be used: {reason} (setting kafka.token_file)") from error
    if not token:
        raise WrongSetting(f"{file} is empty, and should hold a token (setting kafka.token_file)")
    return token


def _context(options: KafkaOptions) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=options.ca_file or None)
    except OSError as error:
        raise WrongSetting(f"{options.ca_file} can't be used: {error} (setting kafka.ca_file)") from error
    if options.certificate_file:
        try:
            # A password, so that a key that wants one is refused and not asked for on the terminal.
            context.load_cert_chain(options.certificate_file, options.key_file or None, password="")
        except OSError as error:
            files = " and ".join(filter(None, (options.certificate_file, options.key_file)))
            settings = "settings kafka.certificate_file and kafka.key_file"
            raise WrongSetting(f"{files} can't be used: {error} ({settings})") from error
    return context
