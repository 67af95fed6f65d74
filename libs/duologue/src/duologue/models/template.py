"""From messages to the text of a prompt, for servers that take text: by the server, or here with its template."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from pydantic import BaseModel, ConfigDict

from duologue.core.problems import WrongSetting
from duologue.core.prompts import Message, in_turns
from duologue.models.connection import Connection, ModelRefused, ModelUnavailable
from duologue.models.turns import Turns

_CONFIG = "tokenizer_config.json"
# Where transformers has kept the template since 4.52; before, it stood in the tokenizer's configuration.
_TEMPLATE = "chat_template.jinja"


class ServersTemplate:
    """The template is the server's: one more request for each prompt, of less than a millisecond's work."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._turns = Turns(connection.url)
        self._added: list[int] | None = None

    async def render(self, messages: Sequence[Message]) -> str:
        """The prompt. Raises `ModelUnavailable` or `ModelRefused`."""
        return await self._turns.send(messages, self._render)

    async def _render(self, messages: Sequence[Message]) -> str:
        reply = await self._connection.post("/chat_tokenize", {"messages": messages})
        try:
            text, tokens = str(reply.content["templated_text"]), reply.content["tokenize_response"]
            added = await self._added_tokens()
            if added and [token["id"] for token in tokens[: len(added)]] == added:
                # /generate adds them itself; twice they would be another prompt. Places are counted in bytes.
                text = text.encode()[tokens[len(added) - 1]["stop"] :].decode()
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise ModelUnavailable(f"{self._connection.url}: a prompt of another shape: {error!r}") from error
        return text

    async def _added_tokens(self) -> list[int]:
        """Ids of the special tokens that the server puts before every text: those that stand for nothing in it."""
        if self._added is None:
            reply = await self._connection.post("/tokenize", {"inputs": "a"}, shape=list)
            before = takewhile(lambda token: token["start"] == token["stop"] == 0, reply.content)
            self._added = [token["id"] for token in before]
        return self._added


class _Named(BaseModel):
    """One of several templates of a model."""

    model_config = ConfigDict(extra="ignore")

    name: str
    template: str


class _TokenizerConfig(BaseModel):
    """What a template needs of a model's tokenizer_config.json."""

    model_config = ConfigDict(extra="ignore")

    chat_template: str | list[_Named] | None = None
    eos_token: str | dict[str, Any] | None = None

    @property
    def eos(self) -> str:
        token = self.eos_token
        return str(token["content"]) if isinstance(token, dict) else token or ""

    @property
    def template(self) -> str | None:
        if isinstance(self.chat_template, list):
            return next((each.template for each in self.chat_template if each.name == "default"), None)
        return self.chat_template


def own_template(folder: str) -> OwnTemplate | None:
    """The template of that folder; None for "". Raises `WrongSetting`."""
    try:
        return OwnTemplate(folder) if folder else None
    except (OSError, ValueError) as error:
        raise WrongSetting(f"{folder} has no chat template: {error} (a model's setting chat_template)") from error


class OwnTemplate:
    """The template of a model's folder, applied here, in a sandbox: it is code that somebody else wrote."""

    def __init__(self, folder: str) -> None:
        """Raises `ValueError` for a folder without a usable template, `OSError` for one that can't be read."""
        config = _TokenizerConfig.model_validate_json((Path(folder) / _CONFIG).read_bytes())
        file = Path(folder) / _TEMPLATE
        source = file.read_text() if file.is_file() else config.template
        if source is None:
            raise ValueError(f"{folder} has no chat template: neither {_TEMPLATE}, nor chat_template in {_CONFIG}")
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        environment.globals["raise_exception"] = _refuse
        environment.filters["tojson"] = lambda value, **options: json.dumps(value, ensure_ascii=False, **options)
        try:
            self._template = environment.from_string(source)
        except TemplateError as error:
            raise ValueError(f"the chat template of {folder}: {error}") from error
        self._eos = config.eos

    async def render(self, messages: Sequence[Message]) -> str:
        """The prompt. Raises `ModelRefused` for messages that the template takes neither as they are nor in turns."""
        try:
            return self._render(messages)
        except TemplateError as error:
            try:
                return self._render(in_turns(messages))
            except TemplateError:
                raise ModelRefused(f"the chat template refuses the messages: {error}", 0) from error

    def _render(self, messages: Sequence[Message]) -> str:
        # The server adds the first token itself.
        return self._template.render(messages=messages, add_generation_prompt=True, bos_token="", eos_token=self._eos)


def _refuse(message: str) -> None:
    raise TemplateError(message)
