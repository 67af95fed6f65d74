"""The file system behind an artifact store's URL, and what its errors mean for who waits for an artifact."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import fsspec

from duologue.core.problems import WrongSetting
from duologue.store.options import S3Options

_S3 = ("s3", "s3a")
# Of these a put is seen whole or not at all, and durable when it is answered.
_OBJECT_STORES = (*_S3, "gs", "gcs")
_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}

_USER = re.compile(r"://[^/@]*@")
_PASSWORD = re.compile(r"://[^/@]*:[^/@]*@|[?&](?:key|secret|token|password)=", re.IGNORECASE)
# One that does not answer is asked five times by s3fs, so botocore need not do it as often each time.
_S3_CONFIG = {"connect_timeout": 5, "read_timeout": 15, "retries": {"total_max_attempts": 1, "mode": "standard"}}
# By which the clients of the stores say that they have no credentials, or can't renew them.
_NO_CREDENTIALS = {
    "NoCredentialsError",
    "PartialCredentialsError",
    "CredentialRetrievalError",
    "TokenRetrievalError",
    "UnauthorizedSSOTokenError",
    "ProfileNotFound",
    "DefaultCredentialsError",
    "RefreshError",
}
# As status codes of HTTP, and as S3 and its STS name them.
_REFUSED = {401, 403, "401", "403", "InvalidIdentityToken", "ExpiredTokenException", "InvalidClientTokenId"}
_CREDENTIALS = (
    "Credentials come from the environment, a role or workload identity, or files, and must be let read, write and "
    "list there"
)


class ArtifactsUnavailable(Exception):
    """The artifact store does not answer, or not now, as the message says; the same may go well later."""


class ArtifactsRefused(ArtifactsUnavailable):
    """The artifact store does not know us, or has no such bucket: until somebody mends that, it will not go well."""


class FileSystem:
    """One of fsspec's file systems, and the folder in it that a URL names. Calls block."""

    def __init__(self, url: str, s3: S3Options) -> None:
        """Connects to nothing yet. Raises `WrongSetting` for a URL that is none, or that carries credentials."""
        scheme = url.partition("://")[0] if "://" in url else "file"
        if _PASSWORD.search(url) or (scheme in _OBJECT_STORES and _USER.search(url)):
            raise WrongSetting(
                f"setting artifacts.url carries credentials: leave them out of the {scheme}:// URL. {_CREDENTIALS}"
            )
        self.is_local = scheme in ("file", "local")
        self.is_object_store = scheme in _OBJECT_STORES
        if self.is_object_store and not re.match(r"[^:]+://[^/]", url):
            raise WrongSetting(f"setting artifacts.url names no bucket: {scheme}://BUCKET or {scheme}://BUCKET/PREFIX")
        try:
            self.fs, self.root = fsspec.core.url_to_fs(url, **_options(scheme, s3))
        except ImportError as error:
            extra = f": install duologue[{_EXTRAS[scheme]}]" if scheme in _EXTRAS else ""
            raise WrongSetting(f"setting artifacts.url: {scheme}:// needs a package{extra} ({error})") from error
        except ValueError as error:
            raise WrongSetting(
                f'setting artifacts.url: there is no store "{scheme}" ({error}); use a folder or s3://bucket/prefix'
            ) from error
        self.url = url.rstrip("/")
        self._bucket = self.root.partition("/")[0]

    @contextmanager
    def asked(self) -> Iterator[None]:
        """Around what is asked of the file system.

        Of one that is no local folder, all errors but those about the file become `ArtifactsUnavailable`.
        """
        try:
            yield
        except FileNotFoundError as error:
            if self._lacks_bucket():
                raise ArtifactsRefused(
                    f"there is no bucket {self._bucket}: make it, or mend setting artifacts.url ({self.url})"
                ) from error
            raise
        except (IsADirectoryError, NotADirectoryError):
            raise
        # The client of each store has errors of its own, of no common kind but this.
        except Exception as error:
            if self.is_local:
                raise
            raise self._told(error) from error

    def _told(self, error: Exception) -> ArtifactsUnavailable:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        if any(map(_is_refusal, _with_causes(error))):
            return ArtifactsRefused(f"{self.url} (setting artifacts.url) refuses us: {reason}. {_CREDENTIALS}")
        return ArtifactsUnavailable(f"{self.url} (setting artifacts.url) does not answer: {reason}")

    def _lacks_bucket(self) -> bool:
        """False where it can't be known: who may not ask for a bucket may still have the rights on what is in it."""
        if not self.is_object_store:
            return False
        try:
            self.fs.info(self._bucket)
        except FileNotFoundError:
            return True
        except Exception:
            return False
        return False


def _options(scheme: str, s3: S3Options) -> dict[str, Any]:
    if scheme not in _OBJECT_STORES:
        return {}
    # Others write there too, so nothing that was listed before is believed.
    options: dict[str, Any] = {"use_listings_cache": False, "skip_instance_cache": True}
    if scheme in _S3:
        addressing = {"s3": {"addressing_style": "path"}} if s3.path_style else {}
        options["config_kwargs"] = {**_S3_CONFIG, **addressing}
        options["client_kwargs"] = {"region_name": s3.region} if s3.region else {}
        options["endpoint_url"] = s3.endpoint_url or None
        options["max_concurrency"] = 1  # so many parts of a file are in memory
    return options


def _is_refusal(error: BaseException) -> bool:
    response = getattr(error, "response", None)
    code = response.get("Error", {}).get("Code") if isinstance(response, dict) else getattr(error, "code", None)
    # gcsfs tells of a 403 in words only.
    is_forbidden = isinstance(error, PermissionError) or str(error).startswith("Forbidden")
    return is_forbidden or type(error).__name__ in _NO_CREDENTIALS or code in _REFUSED


def _with_causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__
