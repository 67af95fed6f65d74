"""Settings from the environment and a file, checked before anything starts."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    YamlConfigSettingsSource,
)

from duologue.bus import RetryPolicy
from duologue.bus.kafka.options import KafkaOptions
from duologue.store.options import DatabaseOptions, S3Options

PREFIX = "DUOLOGUE_"
FILE_VARIABLE = "DUOLOGUE_CONFIG"
BUS_VARIABLE = "DUOLOGUE_BUS_URL"  # besides DUOLOGUE_BUS__URL, which wins

# How alike two names must be for one to be the other mistyped. Other programs' variables begin with the prefix too.
_ALIKE = 0.8

# In a URL, as of a database: scheme://user:password@host?password=...
_PASSWORD = re.compile(r"(://[^:/@\s]*:)\S*(?=@)|([?&](?:password|passwd|secret|token|key)=)[^&\s]*", re.IGNORECASE)


class Section(BaseModel):
    """A group of settings."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class BusSettings(Section):
    """The bus between the services."""

    url: str = Field(
        "sqlite:///.duologue/bus.db",
        description="sqlite:///path: the embedded log of one machine; kafka://host:9092,host:9092: Apache Kafka.",
    )
    retry_first_seconds: float = Field(0.5, gt=0, le=3600, description="Pause before the second attempt; it doubles.")
    retry_longest_seconds: float = Field(60.0, gt=0, le=86_400, description="Longest pause between attempts.")
    retry_deadline_seconds: float = Field(
        900.0, gt=0, le=604_800, description="From the first failure to the dead letters."
    )
    dead_letter_share: float = Field(
        0.5,
        gt=0,
        le=1,
        description="With more dead letters than this among the last 100 records a consumer stops, until its service "
        "is started again. 1: never.",
    )

    @model_validator(mode="after")
    def _ends_after_it_begins(self) -> BusSettings:
        if self.retry_first_seconds > self.retry_deadline_seconds:
            raise ValueError("retry_first_seconds is longer than retry_deadline_seconds: nothing would be tried again")
        return self

    @property
    def retry(self) -> RetryPolicy:
        return RetryPolicy(self.retry_first_seconds, self.retry_longest_seconds, self.retry_deadline_seconds)


class KafkaSettings(Section):
    """How to reach the brokers of a bus on Kafka, and how to be a member of a group."""

    tls: bool = Field(False, description="Encrypt, and check who the brokers are.")
    ca_file: str = Field("", description="Certificate authorities to trust, as PEM; the system's when empty.")
    certificate_file: str = Field("", description="Our certificate, where the brokers ask for one, as PEM.")
    key_file: str = Field("", description="Its key, when it lies in another file.")
    mechanism: Literal["", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] = Field(
        "", description="SASL's, to say who we are."
    )
    username: str = Field("", description="For PLAIN and SCRAM.")
    password: SecretStr = Field(SecretStr(""), description="For PLAIN and SCRAM.")
    token_file: str = Field("", description="For OAUTHBEARER: where somebody keeps a fresh token.")
    instance: str = Field(
        "",
        description="A name of this process alone, kept over restarts, such as a StatefulSet's pod: it comes back to "
        "its partitions without the group noticing.",
    )
    session_seconds: float = Field(30.0, ge=6, le=1800, description="Not heard of for longer, a member is replaced.")
    handover_seconds: float = Field(
        300.0, ge=0, le=86_400, description="For work on partitions that go to another member; then it is abandoned."
    )

    @model_validator(mode="after")
    def _says_who_we_are(self) -> KafkaSettings:
        if self.mechanism == "OAUTHBEARER" and not self.token_file:
            raise ValueError("mechanism OAUTHBEARER needs token_file")
        if self.mechanism not in ("", "OAUTHBEARER") and not (self.username and self.password.get_secret_value()):
            raise ValueError(f"mechanism {self.mechanism} needs username and password")
        if self.key_file and not self.certificate_file:
            raise ValueError("key_file without certificate_file")
        if not self.tls and (self.ca_file or self.certificate_file):
            raise ValueError("ca_file and certificate_file are for tls, which is off")
        return self

    @property
    def options(self) -> KafkaOptions:
        return KafkaOptions(**self.model_dump(exclude={"password"}), password=self.password.get_secret_value())


class GrpcSettings(Section):
    """Where the service answers questions, and how it and those whom it calls know each other.

    The files are read again when they change.
    """

    host: str = Field("127.0.0.1", description="Address to listen on; 0.0.0.0 for all.")
    port: int = Field(0, ge=0, le=65_535, description="Port to listen on; 0 takes any free one.")
    health_port: int = Field(
        0,
        ge=0,
        le=65_535,
        description="Port that answers health checks alone, without TLS, as Kubernetes' probes want it; 0: none.",
    )
    tls: bool = Field(False, description="Encrypt, answering as well as calling, and check whom we call.")
    certificate_file: str = Field(
        "", description="Our certificate with its intermediates, as PEM: shown to callers, and to those whom we call."
    )
    key_file: str = Field("", description="Its key, when it lies in another file.")
    ca_file: str = Field(
        "",
        description="Certificate authorities of callers and of those whom we call, as PEM; for the latter gRPC's own "
        "when empty.",
    )
    require_client_certificate: bool = Field(
        False, description="Whether callers must show a certificate of these authorities."
    )
    server_name: str = Field(
        "",
        description="Whom the certificate of those whom we call must name, where that is not their address, as behind "
        "a forwarded port.",
    )
    token_file: str = Field(
        "",
        description="Tokens, one a line: callers must show one of them, and we show the first. Without TLS they can be "
        "overheard.",
    )

    @model_validator(mode="after")
    def _is_complete(self) -> GrpcSettings:
        if self.key_file and not self.certificate_file:
            raise ValueError("key_file without certificate_file")
        if not self.tls and (self.ca_file or self.certificate_file or self.require_client_certificate):
            raise ValueError("certificate_file, ca_file and require_client_certificate are for tls, which is off")
        if self.require_client_certificate and not self.ca_file:
            raise ValueError("require_client_certificate needs ca_file: whose certificates they must be")
        if self.health_port and self.health_port == self.port:
            raise ValueError("health_port is port: it needs one of its own")
        return self


class MetricsSettings(Section):
    """Where Prometheus finds the service's metrics, under /metrics."""

    host: str = Field("127.0.0.1", description="Address to listen on; 0.0.0.0 for all.")
    port: int = Field(0, ge=0, le=65_535, description="Port to listen on; 0 takes any free one.")


class DatabaseSettings(Section):
    """State in SQL."""

    url: str = Field(description="As SQLAlchemy takes it: sqlite:///path, postgresql+psycopg://user@host/name.")
    pool_size: int = Field(
        4, ge=1, le=64, description="PostgreSQL: transactions at once; the process has one connection more, to lead by."
    )
    connection_seconds: int = Field(
        10, ge=2, le=300, description="PostgreSQL: for a connection to be made, or to come free."
    )
    statement_seconds: float = Field(
        30.0, ge=1, le=3600, description="PostgreSQL: a statement that takes longer, or is not answered, is given up."
    )
    start_seconds: float = Field(
        60.0, ge=0, le=3600, description="At the start: wait for a database that is not there, then end with status 1."
    )

    @property
    def options(self) -> DatabaseOptions:
        return DatabaseOptions(**self.model_dump(exclude={"url"}))


class S3Settings(Section):
    """Where S3 is. Credentials come from the environment, a role or files, as the AWS SDK finds them."""

    endpoint_url: str = Field(
        "",
        pattern="^(https?://[^@]+)?$",
        description="Of a store that is not AWS, such as MinIO or Ceph: https://host:port.",
    )
    region: str = Field("", description="Of the bucket; empty: as the AWS SDK finds it, by AWS_REGION for one.")
    path_style: bool = Field(
        False, description="Whether buckets are named in the path, not in the host: what MinIO and Ceph want."
    )

    @property
    def options(self) -> S3Options:
        return S3Options(**self.model_dump())


class ArtifactSettings(Section):
    """Datasets, adapters, workflows and reports."""

    url: str = Field(
        ".duologue/artifacts",
        description="A folder, s3://bucket/prefix, gs://bucket/prefix, or another URL that fsspec knows. Without "
        "credentials.",
    )
    s3: S3Settings = S3Settings()


class LogSettings(Section):
    """Logs go to standard error, one event a line."""

    format: str = Field("text", pattern="^(text|json)$", description="text for people, json for collectors.")
    level: str = Field("info", pattern="^(debug|info|warning|error)$", description="Least severity that is shown.")


class ServiceSettings(BaseSettings):
    """Settings that all services share. A service's own come beside them."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        nested_model_default_partial_update=True,
    )

    bus: BusSettings = BusSettings()
    kafka: KafkaSettings = KafkaSettings()
    grpc: GrpcSettings = GrpcSettings()
    metrics: MetricsSettings = MetricsSettings()
    log: LogSettings = LogSettings()
    drain_seconds: float = Field(25.0, ge=0, le=3600, description="For finishing what is in work after SIGTERM.")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment wins over the file."""
        file = os.environ.get(FILE_VARIABLE)
        sources = (init_settings, env_settings, InitSettingsSource(settings_cls, _short_names()))
        return (*sources, YamlConfigSettingsSource(settings_cls, file)) if file else sources


Settings = TypeVar("Settings", bound=ServiceSettings)


def load_settings(kind: type[Settings], arguments: list[str] | None = None) -> Settings:
    """The settings of a service; with `--print-settings` they are printed, secrets hidden, and the process ends.

    Ends the process with status 2 and the field's name when a setting is wrong.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    unknown = [argument for argument in arguments if argument != "--print-settings"]
    if unknown:
        _refuse(f"unknown argument {unknown[0]!r}; a service takes --print-settings only, all else are settings")
    file = os.environ.get(FILE_VARIABLE)
    if file and not Path(file).is_file():
        _refuse(f"{FILE_VARIABLE} names {file}, which is not a file")
    if mistyped := mistyped_variables(kind, os.environ):
        _refuse("\n".join(f"{name} is no setting: did you mean {meant}?" for name, meant in mistyped.items()))
    try:
        settings = kind()
    except ValidationError as error:
        _refuse("\n".join(_explain(item) for item in error.errors(include_url=False)))
    except yaml.YAMLError as error:
        _refuse(f"{file} is not valid YAML: {error}")
    except (SettingsError, ValueError, TypeError) as error:  # text where a section belongs, a file of another shape
        _refuse(f"settings can't be read: {error}")
    if arguments:
        print(yaml.safe_dump(_shown(settings.model_dump()), sort_keys=False), end="")
        raise SystemExit(0)
    return settings


def mistyped_variables(kind: type[ServiceSettings], names: Iterable[str]) -> dict[str, str]:
    """Those of the variables that are no settings of this kind, but almost: each with the one that was meant.

    A variable that is like none is another service's, or another program's.
    """
    known = [*_variables(kind), BUS_VARIABLE.removeprefix(PREFIX)]
    sections = {name.split("__")[0] for name in known}
    mistyped = {}
    for variable in names:
        name = variable.upper().removeprefix(PREFIX)
        if name in known:
            continue
        if name == variable.upper() or name.split("__")[0] in sections:  # what is wrong in a section pydantic refuses
            continue
        if close := get_close_matches(name, known, n=1, cutoff=_ALIKE):
            mistyped[variable] = PREFIX + close[0]
    return mistyped


def _short_names() -> dict[str, Any]:
    """What stands in `DUOLOGUE_BUS_URL`: the one setting that everybody types."""
    url = os.environ.get(BUS_VARIABLE)
    return {"bus": {"url": url}} if url else {}


def _variables(kind: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """The environment's names of all settings of a kind, without what all begin with."""
    for name, field in kind.model_fields.items():
        variable = f"{prefix}{name}".upper()
        section = field.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            yield from _variables(section, f"{variable}__")
        else:
            yield variable


def _refuse(message: str) -> Any:
    print(message, file=sys.stderr)
    raise SystemExit(2)


def _explain(error: Any) -> str:
    path = [str(step) for step in error["loc"]]
    variable = PREFIX + "__".join(path).upper()
    return f"setting {'.'.join(path)} (or {variable}): {error['msg']}"


def _shown(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _shown(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_shown(item) for item in value]
    if isinstance(value, str):
        return _PASSWORD.sub(r"\1\2********", value)
    return "********" if isinstance(value, SecretStr) else value
