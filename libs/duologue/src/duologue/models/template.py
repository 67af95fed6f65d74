"""From messages to the text of a prompt, for servers that take text: by the server, or here with its template."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from pydantic import BaseModel, ConfigDict

from duologue.core.prompts import Message
from duologue.models.connection import Connection, ModelRefused, ModelUnavailable

_CONFIG = "tokenizer_config.json"


class ServersTemplate:
    """The template is the server's: one more request for each prompt, of less than a millisecond's work."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._added: list[int] | None = None

    async def render(self, messages: list[Message]) -> str:
        """The prompt. Raises `ModelUnavailable` or `ModelRefused`."""
        reply = await self._connection.post("/chat_tokenize", {"messages": messages})
        try:
            text, tokens = reply.content["templated_text"], reply.content["tokenize_response"]
            added = await self._added_tokens()
            if [token["id"] for token in tokens[: len(added)]] == added and added:
                # /generate adds them itself; twice they would be another prompt.
                text = text[len(text[: tokens[len(added) - 1]["stop"]]) :]
        except (KeyError, IndexError, TypeError) as error:
            raise ModelUnavailable(f"{self._connection.url}: a prompt of another shape: {error!r}") from error
        return str(text)

    async def _added_tokens(self) -> list[int]:
        """Ids of the special tokens that the server puts before every text: those that stand for nothing in it."""
        if self._added is None:
            reply = await self._connection.post("/tokenize", {"inputs": "a"}, shape=list)
            self._added = [token["id"] for token in reply.content if token["start"] == token["stop"] == 0]
        return self._added


class _TokenizerConfig(BaseModel):
    """What a template needs of a model's tokenizer_config.json."""

    model_config = ConfigDict(extra="ignore")

    chat_template: str
    eos_token: str | dict[str, Any] | None = None

    @property
    def eos(self) -> str:
        token = self.eos_token
        return str(token["content"]) if isinstance(token, dict) else token or ""


class OwnTemplate:
    """The template of a model's folder, applied here, in a sandbox: it is code that somebody else wrote."""

    def __init__(self, folder: str) -> None:
        """Raises `ValueError` for a folder without a usable template, `OSError` for one that can't be read."""
        config = _TokenizerConfig.model_validate_json((Path(folder) / _CONFIG).read_bytes())
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        environment.globals["raise_exception"] = _refuse
        environment.filters["tojson"] = lambda value, **options: json.dumps(value, ensure_ascii=False, **options)
        try:
            self._template = environment.from_string(config.chat_template)
        except TemplateError as error:
            raise ValueError(f"{folder}/{_CONFIG}: chat_template: {error}") from error
        self._eos = config.eos

    async def render(self, messages: list[Message]) -> str:
        """The prompt. Raises `ModelRefused` for messages that the template does not take."""
        try:
            # The server adds the first token itself.
            return self._template.render(
                messages=messages, add_generation_prompt=True, bos_token="", eos_token=self._eos
            )
        except TemplateError as error:
            raise ModelRefused(f"the chat template refuses the messages: {error}", 0) from error


def _refuse(message: str) -> None:
    raise TemplateError(message)
