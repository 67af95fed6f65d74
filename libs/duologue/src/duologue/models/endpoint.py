"""Settings of a model: where it is served, what it is called there, and how patient to be."""

from __future__ import annotations

from typing import Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator


class Endpoint(BaseModel):
    """Where a model is served, and how patient to be with it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str = Field(
        "http://127.0.0.1:7421",
        description="Base URL of a model server, without /v1; several servers of one model are separated by commas.",
    )
    server: Literal["auto", "tgi", "openai"] = Field(
        "auto",
        description="tgi: Text Generation Inference's own API; openai: chat completions as OpenAI's; auto: ask it.",
    )
    model: str = Field("", description="Name or path that the server knows the model by.")
    api_key: SecretStr | None = Field(None, description="Sent as a bearer token.")
    chat_template: str = Field(
        "",
        description="TGI: a folder with the model's tokenizer_config.json, to build prompts here instead of asking the "
        "server to.",
    )
    decisions: Literal["auto", "systemone", "labels", "text"] = Field(
        "auto",
        description="How typed questions are asked: systemone: /v1/systemone; labels: one letter for each, with its "
        "log-probabilities or under a grammar; text: letters out of free text. auto takes the first that the server "
        "has, but never text.",
    )
    calibration: str = Field(
        "", description="A file that `duologue calibrate` wrote: how far this model's probabilities are to be trusted."
    )
    artifacts: str = Field(
        "",
        description="Where this server sees the artifact store, as /mnt/artifacts: a server that loads adapters by its "
        "API (vLLM) is asked to load them from there. Empty: whoever runs it sees to it that it serves them.",
    )
    timeout_seconds: float = Field(120.0, gt=0, le=3600, description="For one request, from asking to the last byte.")
    connect_seconds: float = Field(3.0, gt=0, le=60, description="For opening a connection.")
    patience_seconds: float = Field(
        180.0,
        ge=0,
        le=3600,
        description="How long a request waits in its place for servers that do not answer, or refuse for having too "
        "much to do, before the dialogue is put off. 0: not at all.",
    )
    hedge_seconds: float = Field(
        0.0,
        ge=0,
        le=3600,
        description="With several servers: ask a second one too when the first has not answered for so long, and take "
        "the answer that comes first. It costs tokens that are not counted. 0: never.",
    )
    connections: int = Field(
        128,
        ge=1,
        le=10_000,
        description="Requests to each server at once at most; how many there are is found by trying.",
    )

    @field_validator("url")
    @classmethod
    def _names_servers(cls, url: str) -> str:
        """The URL is shown in metrics, messages and logs."""
        for one in url.split(","):
            if not one.strip().startswith(("http://", "https://")):
                raise ValueError(f"{one.strip()!r} is no URL of a server: it begins with http:// or https://")
            if "@" in urlsplit(one).netloc:
                raise ValueError("the URL holds credentials: give them as api_key")
        return url

    @property
    def urls(self) -> list[str]:
        """Of each server, without a slash at the end."""
        return [one.strip().rstrip("/") for one in self.url.split(",")]
