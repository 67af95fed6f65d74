"""Whether the brokers let us in and, if not, which setting to mend.

kafka-python tries again until its deadline, whatever the brokers say, and then tells only that it did not get in.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kafka.errors import (
    IllegalSaslStateError,
    KafkaConnectionError,
    KafkaProtocolError,
    SaslAuthenticationFailedError,
    UnsupportedSaslMechanismError,
)
from kafka.net.connection import KafkaConnection
from kafka.net.manager import KafkaConnectionManager
from kafka.net.selector import NetworkSelector

from duologue.bus.kafka.options import KafkaOptions
from duologue.bus.kafka.security import TokenFile, expiry_of
from duologue.core.problems import WrongSetting

# By the codes of OpenSSL: expired; another host's; another address's.
_MEND = {10: "it must be renewed", **dict.fromkeys((62, 64), "the host in setting bus.url")}
_TRUST = "setting kafka.ca_file"
_CONNECT_MS = 5000
# A broker that hangs up may only have been about to stop.
_TRIES = 3


def require_admission(settings: Mapping[str, Any], options: KafkaOptions) -> None:
    """Raises `WrongSetting` where a broker refuses us. One that does not answer refuses nothing: that may pass.

    Asked are the brokers that the settings name, and those that they send us to, until one lets us in. Blocks.
    """
    refusal = None
    with _silence():
        for _ in range(_TRIES):
            refusal = _refusal(settings, options)
            if refusal is None or refusal.is_certain:
                break
    if refusal is not None:
        raise WrongSetting(f"broker {refusal.place} {refusal.reason}")


@dataclass(frozen=True)
class _Refusal:
    """`is_certain`: the broker said so; else it hung up without a word."""

    place: str
    reason: str
    is_certain: bool


class _Visitor(KafkaConnectionManager):
    """Hears what a broker says before it hangs up; kafka-python drops what comes together with the end."""

    async def _build_transport(self, *arguments: Any, **named: Any) -> Any:
        transport = await super()._build_transport(*arguments, **named)
        receive = transport._sock_recv

        def receive_before_the_end() -> tuple[bytes, Exception | None]:
            data, error = receive()
            return data, None if data else error

        transport._sock_recv = receive_before_the_end
        return transport


def _refusal(settings: Mapping[str, Any], options: KafkaOptions) -> _Refusal | None:
    net = NetworkSelector(client_id=settings["client_id"])
    manager = _Visitor(net, **settings)

    async def visit() -> _Refusal | None:
        named = await _first_answer(manager, manager.cluster.bootstrap_brokers(), options)
        return named or await _first_answer(manager, manager.cluster.brokers(), options)

    try:
        refusal: _Refusal | None = net.run(visit)
    finally:
        manager.close()
        net.close()
    return refusal


async def _first_answer(
    manager: KafkaConnectionManager, brokers: Iterable[Any], options: KafkaOptions
) -> _Refusal | None:
    for broker in brokers:
        manager.broker_version_data = None  # so that a connection has it only of the broker that it spoke with
        connection = manager.get_connection(
            broker.node_id, timeout_ms=_CONNECT_MS, pop_on_close=False, refresh_metadata_on_err=False
        )
        try:
            await connection
            await manager.cluster.refresh_metadata(broker.node_id)
        except Exception as error:
            if (refusal := _explain(error, connection, broker, options)) is not None:
                return refusal
        else:
            return None
    return None


def _explain(error: Exception, connection: KafkaConnection, broker: Any, options: KafkaOptions) -> _Refusal | None:
    place = f"{broker.host}:{broker.port}"
    if reason := _tls_reason(error, options) or _sasl_reason(error, options):
        return _Refusal(place, reason, is_certain=True)
    if not isinstance(error, (KafkaConnectionError, KafkaProtocolError)):
        return None
    if isinstance(error.__context__, (ssl.SSLEOFError, ConnectionResetError)):
        return _Refusal(place, _NO_TLS, is_certain=False)
    if connection.broker_version_data is not None:  # it spoke with us, and then hung up
        return _Refusal(place, _refused(options) or _NOBODY, is_certain=False)
    if not options.tls and _speaks_tls(broker.host, broker.port):
        return _Refusal(place, "speaks TLS only (set kafka.tls to true)", is_certain=True)
    return None


_NO_TLS = "does not speak TLS there (set kafka.tls to false, or the port of its TLS in bus.url)"
_NOBODY = "hangs up on a client that does not say who it is (setting kafka.mechanism)"


def _tls_reason(error: Exception, options: KafkaOptions) -> str:
    cause = error.__context__ or next(iter(error.args), None)
    if isinstance(cause, ssl.SSLCertVerificationError):
        said = cause.verify_message.rstrip(".")
        return f"has a certificate that is not trusted: {said} ({_MEND.get(cause.verify_code, _TRUST)})"
    if not isinstance(cause, ssl.SSLError) or isinstance(cause, ssl.SSLEOFError):
        return ""
    if "ALERT" not in (cause.reason or ""):
        return _NO_TLS
    verb = "refuses our" if options.certificate_file else "asks for a"
    said = cause.reason.rpartition("ALERT_")[2].replace("_", " ").lower()
    return f"{verb} certificate: {said} (setting kafka.certificate_file)"


def _sasl_reason(error: Exception, options: KafkaOptions) -> str:
    if isinstance(error, SaslAuthenticationFailedError):
        return _refused(options)
    if isinstance(error, UnsupportedSaslMechanismError):
        return f"does not take {options.mechanism} there (setting kafka.mechanism)"
    if isinstance(error, IllegalSaslStateError):
        return 'does not ask who we are there (set kafka.mechanism to "", or the port of its SASL in bus.url)'
    return ""


def _refused(options: KafkaOptions) -> str:
    """The broker itself does not say what is wrong with it."""
    if options.mechanism == "OAUTHBEARER":
        expiry = expiry_of(TokenFile(Path(options.token_file)).token())
        expired = f", which expired at {expiry:%Y-%m-%d %H:%M:%S} UTC" if expiry and expiry < datetime.now(UTC) else ""
        return f"refuses the token of {options.token_file}{expired} (setting kafka.token_file)"
    if options.mechanism:
        return f"refuses user {options.username!r} with this password (settings kafka.username and kafka.password)"
    return ""


def _speaks_tls(host: str, port: int) -> bool:
    try:
        ssl.get_server_certificate((host, port), timeout=_CONNECT_MS / 1000)
    except OSError:
        return False
    return True


@contextmanager
def _silence() -> Iterator[None]:
    """What kafka-python would log, stacks among it, is what we come to say."""
    log = logging.getLogger("kafka")
    level = log.level
    log.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        log.setLevel(level)
