"""A broker that asks who is there: TLS, certificates of clients, SCRAM, tokens, and rights."""

from __future__ import annotations

import base64
import json
import time
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from kafka import KafkaAdminClient
from kafka.admin import (
    ACL,
    ACLOperation,
    ACLPermissionType,
    ACLResourcePatternType,
    ResourcePattern,
    ResourceType,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from tests.support.brokers.cluster import KafkaCluster
from tests.support.certificates import HERE, Authority

# The plain listener is for the test itself, which may do everything there; the others, by what they ask for.
PLAIN = "PLAINTEXT"
TLS, MUTUAL, SCRAM, TOKEN = "TLS", "MUTUAL", "SCRAM", "TOKEN"
# With another host's certificate, and with one that has expired.
ELSEWHERE, EXPIRED = "ELSEWHERE", "EXPIRED"
_PROTOCOLS = {TLS: "SSL", MUTUAL: "SSL", SCRAM: "SASL_SSL", TOKEN: "SASL_SSL", ELSEWHERE: "SSL", EXPIRED: "SSL"}

_AUDIENCE = "duologue"
_KEY_ID = "test"


@dataclass
class SecuredBroker:
    """One broker with a listener for each way to say who one is. `folder` holds what its certificates came from."""

    cluster: KafkaCluster
    authority: Authority
    tokens: TokenIssuer

    @classmethod
    def start(cls, folder: Path) -> SecuredBroker:
        authority = Authority(folder)
        tokens = TokenIssuer()
        keys = folder / "keys.json"
        keys.write_text(json.dumps(tokens.public_keys), encoding="utf-8")
        cluster = KafkaCluster.start(
            folder,
            settings={
                **_store("", authority, folder, *HERE),
                **_store(f"listener.name.{ELSEWHERE.lower()}.", authority, folder, "elsewhere.example"),
                **_store(f"listener.name.{EXPIRED.lower()}.", authority, folder, *HERE, is_expired=True),
                f"listener.name.{MUTUAL.lower()}.ssl.client.auth": "required",
                "ssl.principal.mapping.rules": "RULE:^.*CN=([^,]+).*$/$1/",
                **_sasl(SCRAM, "SCRAM-SHA-512", "org.apache.kafka.common.security.scram.ScramLoginModule"),
                **_sasl(TOKEN, "OAUTHBEARER", "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule"),
                f"listener.name.{TOKEN.lower()}.oauthbearer.sasl.server.callback.handler.class": (
                    "org.apache.kafka.common.security.oauthbearer.OAuthBearerValidatorCallbackHandler"
                ),
                f"listener.name.{TOKEN.lower()}.oauthbearer.connections.max.reauth.ms": "3600000",
                "sasl.oauthbearer.jwks.endpoint.url": keys.as_uri(),
                "sasl.oauthbearer.expected.audience": _AUDIENCE,
                "sasl.oauthbearer.clock.skew.seconds": "0",
                "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
                "super.users": "User:ANONYMOUS;User:admin",
            },
            listeners=_PROTOCOLS,
            jvm=(f"-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls={keys.as_uri()}",),
        )
        return cls(cluster, authority, tokens)

    def admin(self) -> KafkaAdminClient:
        """One that may do everything."""
        return KafkaAdminClient(bootstrap_servers=self.cluster.bootstrap)

    def url(self, listener: str) -> str:
        return f"kafka://{self.cluster.bootstrap if listener == PLAIN else self.cluster.bootstrap_of(listener)}"

    def add_user(self, name: str, password: str) -> None:
        """For SCRAM; also a new password."""
        admin = self.admin()
        try:
            admin.alter_user_scram_credentials(
                [UserScramCredentialUpsertion(name, ScramMechanism.SCRAM_SHA_512, password, iterations=4096)]
            )
        finally:
            admin.close()

    def allow(self, user: str, kind: ResourceType, prefix: str, *operations: ACLOperation) -> None:
        """On all whose names begin so."""
        admin = self.admin()
        pattern = ResourcePattern(kind, prefix, ACLResourcePatternType.PREFIXED)
        try:
            done = admin.create_acls(
                [ACL(f"User:{user}", "*", operation, ACLPermissionType.ALLOW, pattern) for operation in operations]
            )
            assert not done["failed"], done
        finally:
            admin.close()

    def close(self) -> None:
        self.cluster.close()


class TokenIssuer:
    """Signs tokens as an identity provider does."""

    def __init__(self) -> None:
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    @property
    def public_keys(self) -> dict[str, object]:
        numbers = self._key.public_key().public_numbers()
        key = {"kty": "RSA", "kid": _KEY_ID, "alg": "RS256", "use": "sig"}
        return {"keys": [{**key, "n": _base64(_bytes(numbers.n)), "e": _base64(_bytes(numbers.e))}]}

    def issue(self, user: str, seconds: float) -> str:
        """A token for a user; `seconds` from now it has expired, with less than 0 long ago."""
        now = time.time()
        head = {"alg": "RS256", "kid": _KEY_ID, "typ": "JWT"}
        claims = {"sub": user, "aud": _AUDIENCE, "scope": "duologue", "iat": int(now) - 3600, "exp": int(now + seconds)}
        signed = ".".join(_base64(json.dumps(part).encode()) for part in (head, claims))
        return f"{signed}.{_base64(self._key.sign(signed.encode(), padding.PKCS1v15(), SHA256()))}"


def _store(prefix: str, authority: Authority, folder: Path, *hosts: str, is_expired: bool = False) -> dict[str, str]:
    """A listener's certificate, by Kafka's settings."""
    name = prefix.strip(".").replace(".", "-") or "broker"
    certificate = authority.issue(name, *hosts, is_expired=is_expired)
    both = folder / f"{name}-both.pem"
    both.write_bytes(certificate.key.read_bytes() + certificate.certificate.read_bytes())
    return {
        f"{prefix}ssl.keystore.type": "PEM",
        f"{prefix}ssl.keystore.location": str(both),
        f"{prefix}ssl.truststore.type": "PEM",
        f"{prefix}ssl.truststore.location": str(authority.file),
    }


def _sasl(listener: str, mechanism: str, module: str) -> dict[str, str]:
    prefix = f"listener.name.{listener.lower()}"
    return {
        f"{prefix}.sasl.enabled.mechanisms": mechanism,
        f"{prefix}.{mechanism.lower()}.sasl.jaas.config": f"{module} required;",
    }


def _bytes(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 7) // 8, "big")


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
