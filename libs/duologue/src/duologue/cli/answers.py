"""What the manager's model, or another, decides of labelled questions."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, YamlConfigSettingsSource
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from duologue.cli.local.layout import Layout
from duologue.cli.output import Failure, errors
from duologue.core.dialogue import Decision
from duologue.core.labelled import Labelled
from duologue.models import DecisionModel, Endpoint, ModelRefused, ModelServer, ModelUnavailable
from duologue.models.check import check_decisions
from duologue.runtime.settings import FILE_VARIABLE, ServiceSettings, load_settings


@dataclass(frozen=True, slots=True)
class Answered:
    """A labelled line, and what the model decided of its questions."""

    labelled: Labelled
    decisions: dict[str, Decision]


class _Models(BaseModel):
    # Role-play has other models beside the manager.
    model_config = ConfigDict(extra="ignore", frozen=True)

    manager: Endpoint = Endpoint()


class _Settings(ServiceSettings):
    """What role-play is told of its models: by the environment, `DUOLOGUE_CONFIG`, or what `duologue up` wrote."""

    model_config = SettingsConfigDict(extra="ignore")

    models: _Models = _Models()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        told = super().settings_customise_sources(
            settings_cls, init_settings, env_settings, dotenv_settings, file_secret_settings
        )
        if os.environ.get(FILE_VARIABLE):
            return told
        return (*told, YamlConfigSettingsSource(settings_cls, Layout.here().config / "roleplay.yaml"))


def find_endpoint(url: str, model: str) -> Endpoint:
    """The manager's, or with another URL or model; without a calibration that it may have. Raises `Failure`."""
    told = load_settings(_Settings, []).models.manager
    changes = {"url": url or told.url, "model": model or told.model, "calibration": ""}
    try:
        endpoint = Endpoint.model_validate(dict(told) | changes)
    except ValidationError as error:
        raise Failure("--url: " + error.errors()[0]["msg"].removeprefix("Value error, "), status=2) from None
    if not endpoint.model:
        raise Failure("Which model? Name it with --model, as models.manager.model names it in the settings.", status=2)
    return endpoint


def ask_all(endpoint: Endpoint, labelled: Sequence[Labelled], concurrency: int) -> list[Answered]:
    """The lines that somebody answered, in their order, with the model's decisions. Raises `Failure`."""
    return asyncio.run(_ask_all(endpoint, [each for each in labelled if each.answered], concurrency))


async def _ask_all(endpoint: Endpoint, labelled: Sequence[Labelled], concurrency: int) -> list[Answered]:
    for check in await check_decisions("manager", endpoint):
        if check.problem:
            raise Failure(f"{check.model!r} at {check.url} does not decide: {check.problem}")
    slots = asyncio.Semaphore(concurrency)
    failed: Sequence[BaseException] = ()
    tasks: list[asyncio.Task[Answered]] = []
    columns = (TextColumn("asking"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    async with ModelServer(endpoint) as server:
        model = DecisionModel(server)
        with Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as progress:
            shown = progress.add_task("asking", total=len(labelled))

            async def ask(each: Labelled) -> Answered:
                async with slots:
                    answers = await model.ask(each.state, each.asked)
                progress.advance(shown)
                return Answered(each, answers.decisions)

            try:
                async with asyncio.TaskGroup() as group:
                    tasks.extend(group.create_task(ask(each)) for each in labelled)
            except* (ModelRefused, ModelUnavailable) as refused:
                failed = refused.exceptions
    if failed:
        raise Failure(f"The model did not answer all questions: {failed[0]}")
    return [task.result() for task in tasks]
