"""An MLflow server, brought to the state that the tables are in, whatever it has.

What is there is found by tags, so that nothing is made twice: not by a process that was killed between two writes, nor
by a server that was told by another one before. Of runs and versions that two processes made at once one is left.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from duologue.core.problems import WrongSetting
from duologue_campaign.settings import MlflowSettings
from duologue_campaign.tracked import (
    TrackedAdapter,
    TrackedAgent,
    TrackedCampaign,
    TrackedDataset,
    TrackedRound,
)

if TYPE_CHECKING:
    from mlflow.entities import Experiment, Run
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.tracking import MlflowClient

# Where the operator says nothing else: a campaign waits for none of this, so it is tried again later, not at once.
# Usage of the client is reported to nobody, and nothing is printed between the lines of the log.
_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
_CAMPAIGN, _ROUND, _ADAPTER = "duologue.campaign_id", "duologue.round", "duologue.adapter_id"
_PREFIX = "duologue."
_PAGE = 500
_ALL = 3  # MLflow's ViewType: active ones, and those that a person deleted
_LONGEST_DIGEST = 36
# Errors that are about what was told; all others are about the server, or about who we are.
_OF_THE_REQUEST = {
    "BAD_REQUEST",
    "INVALID_PARAMETER_VALUE",
    "INVALID_STATE",
    "RESOURCE_ALREADY_EXISTS",
    "RESOURCE_CONFLICT",
    "RESOURCE_DOES_NOT_EXIST",
    "RESOURCE_LIMIT_EXCEEDED",
}
_OF_THE_CALLER = {"UNAUTHENTICATED", "PERMISSION_DENIED", "CUSTOMER_UNAUTHORIZED"}
_REFUSALS = ("error code 401", "error code 403")


Leads = Callable[[], bool]
"""Whether this process leads still, and may write."""


class ServerUnavailable(Exception):
    """The server does not answer, or refuses us, as the message says. `is_refusal`: somebody has to mend something."""

    def __init__(self, message: str, *, is_refusal: bool = False) -> None:
        super().__init__(message)
        self.is_refusal = is_refusal


class NotTold(Exception):
    """The server does not take this, as the message says; it may take other things."""


class TermOver(Exception):
    """Another process leads, or will in a moment: nothing more is written."""


class MlflowServer:
    """Calls block. Writes are those of a leader: each looks whether it still leads."""

    def __init__(self, settings: MlflowSettings) -> None:
        """Connects to nothing yet. Raises `WrongSetting` where the client is wanted and not installed."""
        if settings.url and find_spec("mlflow") is None:
            raise WrongSetting("setting mlflow.url needs a package: install duologue-campaign[mlflow]")
        self.url = settings.url
        self._prefix = settings.experiment_prefix
        self._opened: MlflowClient | None = None

    def check(self) -> None:
        """Raises `ServerUnavailable` where there is no MLflow that takes us."""
        with self._answers():
            self._client.search_experiments(max_results=1)

    def tell_campaign(self, campaign: TrackedCampaign, leads: Leads) -> None:
        """Raises `ServerUnavailable`, `NotTold` and `TermOver`, then what is missing is told the next time."""
        with self._answers():
            experiment = self._experiment(campaign, leads)
            if experiment.lifecycle_stage == "deleted":
                return  # by a person, who wants it that way
            for name, value in _changes(campaign.tags, experiment.tags).items():
                self._leading(leads).set_experiment_tag(experiment.experiment_id, name, value)
            runs = self._runs(experiment.experiment_id)
            for tracked in campaign.rounds:
                self._tell_round(experiment.experiment_id, tracked, runs.get(tracked.number, []), leads)

    def tell_agent(self, agent: TrackedAgent, leads: Leads) -> None:
        """Raises as `tell_campaign` does."""
        with self._answers():
            self._register(agent.name, leads)
            versions = self._versions(agent.name)
            for adapter in agent.adapters:
                versions[adapter.id] = [self._tell_adapter(agent.name, adapter, versions.get(adapter.id, []), leads)]
            self._move_aliases(agent, versions, leads)

    def _experiment(self, campaign: TrackedCampaign, leads: Leads) -> Experiment:
        found = self._client.search_experiments(_ALL, filter_string=_tagged(_CAMPAIGN, campaign.id))
        if found:
            return found[0]
        name = f"{self._prefix}{campaign.agent}-{campaign.id[:8]}"
        return self._client.get_experiment(self._leading(leads).create_experiment(name, tags=campaign.tags))

    def _runs(self, experiment_id: str) -> dict[int, list[Run]]:
        """By round, oldest first; with those that a person deleted."""
        runs: dict[int, list[Run]] = {}
        token: str | None = None
        while token != "":
            page = self._client.search_runs(
                [experiment_id],
                run_view_type=_ALL,
                max_results=_PAGE,
                order_by=["attributes.start_time", "attributes.run_id"],
                page_token=token,
            )
            for run in page:
                if (number := run.data.tags.get(_ROUND)) is not None:
                    runs.setdefault(int(number), []).append(run)
            token = page.token or ""
        return runs

    def _tell_round(self, experiment_id: str, tracked: TrackedRound, runs: Sequence[Run], leads: Leads) -> None:
        if not runs:
            runs = self._begin_run(experiment_id, tracked, leads)
        active = sorted(
            (run for run in runs if run.info.lifecycle_stage == "active"), key=lambda run: str(run.info.run_id)
        )
        for twin in active[1:]:
            self._leading(leads).delete_run(twin.info.run_id)
        if active:  # otherwise a person deleted it
            self._bring_up(active[0], tracked, leads)

    def _begin_run(self, experiment_id: str, tracked: TrackedRound, leads: Leads) -> Sequence[Run]:
        """All that there are then: another process may have begun one in the same moment."""
        self._leading(leads).create_run(
            experiment_id,
            start_time=_milliseconds(tracked.began_at),
            tags={**tracked.tags, _ROUND: str(tracked.number)},
            run_name=f"round {tracked.number}",
        )
        return self._runs(experiment_id)[tracked.number]

    def _bring_up(self, run: Run, tracked: TrackedRound, leads: Leads) -> None:
        """Write what differs. A parameter that is there stays: MLflow changes none."""
        from mlflow.entities import Metric, Param, RunTag

        run_id, there = run.info.run_id, run.data
        at = _milliseconds(tracked.ended_at or tracked.began_at)
        parameters = [Param(name, value) for name, value in tracked.parameters.items() if name not in there.params]
        metrics = [
            Metric(name, value, at, tracked.number)
            for name, value in tracked.metrics.items()
            if there.metrics.get(name) != value
        ]
        tags = [RunTag(*tag) for tag in _changes(tracked.tags, there.tags, keep=_ROUND).items()]
        if parameters or metrics or tags:
            self._leading(leads).log_batch(run_id, metrics=metrics, params=parameters, tags=tags)
        known = {(used.dataset.name, used.dataset.digest) for used in _used(run)}
        datasets = [_input(dataset) for dataset in tracked.datasets if (dataset.name, _digest(dataset)) not in known]
        if datasets:
            self._leading(leads).log_inputs(run_id, datasets)
        if run.info.status != tracked.status:
            if tracked.ended_at is None:
                self._leading(leads).update_run(run_id, status=tracked.status)
            else:
                self._leading(leads).set_terminated(run_id, tracked.status, _milliseconds(tracked.ended_at))

    def _register(self, name: str, leads: Leads) -> None:
        if not self._client.search_registered_models(f"name = '{name}'", max_results=1):
            self._leading(leads).create_registered_model(name, tags={f"{_PREFIX}agent": name})

    def _versions(self, name: str) -> dict[str, list[ModelVersion]]:
        """By adapter, oldest first."""
        versions: dict[str, list[ModelVersion]] = {}
        token: str | None = None
        while token != "":
            page = self._client.search_model_versions(f"name = '{name}'", max_results=_PAGE, page_token=token)
            for version in page:
                if adapter := version.tags.get(_ADAPTER):
                    versions.setdefault(adapter, []).append(version)
            token = page.token or ""
        return {name: sorted(found, key=lambda version: int(version.version)) for name, found in versions.items()}

    def _tell_adapter(
        self, name: str, adapter: TrackedAdapter, versions: Sequence[ModelVersion], leads: Leads
    ) -> ModelVersion:
        if not versions:
            self._leading(leads).create_model_version(
                name,
                _source(adapter),
                run_id=self._run_id(adapter),
                tags=adapter.tags,
                description=f"Adapter {adapter.id}",
                await_creation_for=0,
            )
            versions = self._versions(name)[adapter.id]
        first, *twins = versions
        for twin in twins:
            self._leading(leads).delete_model_version(name, twin.version)
        for tag, value in _changes(adapter.tags, first.tags).items():
            self._leading(leads).set_model_version_tag(name, first.version, tag, value)
        return first

    def _run_id(self, adapter: TrackedAdapter) -> str | None:
        """Of the round that made it; None where a person has deleted that."""
        experiments = self._client.search_experiments(filter_string=_tagged(_CAMPAIGN, adapter.campaign_id))
        for experiment in experiments:
            for run in self._client.search_runs([experiment.experiment_id], _tagged(_ROUND, str(adapter.round))):
                return str(run.info.run_id)
        return None

    def _move_aliases(self, agent: TrackedAgent, versions: Mapping[str, Sequence[ModelVersion]], leads: Leads) -> None:
        there = self._client.get_registered_model(agent.name).aliases
        for alias, adapter_id in agent.aliases.items():
            wanted = str(versions[adapter_id][0].version) if adapter_id else ""
            if wanted == str(there.get(alias, "")):
                continue
            if wanted:
                self._leading(leads).set_registered_model_alias(agent.name, alias, wanted)
            else:
                self._leading(leads).delete_registered_model_alias(agent.name, alias)

    def _leading(self, leads: Leads) -> MlflowClient:
        if not leads():
            raise TermOver
        return self._client

    @property
    def _client(self) -> MlflowClient:
        if self._opened is None:
            for name, value in _ENVIRONMENT.items():
                os.environ.setdefault(name, value)
            from mlflow.tracking import MlflowClient  # takes a second or two, which others need not wait for

            self._opened = MlflowClient(tracking_uri=self.url, registry_uri=self.url)
        return self._opened

    @contextmanager
    def _answers(self) -> Iterator[None]:
        """Turns the client's errors into ours, by what should happen next."""
        from mlflow.exceptions import MlflowException

        try:
            yield
        except MlflowException as error:
            reason = " ".join(str(error).split())
            if error.error_code in _OF_THE_CALLER or any(sign in reason for sign in _REFUSALS):
                raise ServerUnavailable(
                    f"MLflow at {self.url} (setting mlflow.url) refuses us: {reason}. Credentials come from "
                    "MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
                    is_refusal=True,
                ) from error
            if error.error_code in _OF_THE_REQUEST:
                raise NotTold(reason) from error
            raise ServerUnavailable(
                f"MLflow at {self.url} (setting mlflow.url) does not answer as MLflow does: {reason}"
            ) from error


def _changes(wanted: Mapping[str, str], there: Mapping[str, str], keep: str = "") -> dict[str, str]:
    """Tags to write. What is ours and no more wanted becomes empty."""
    gone = {name for name, value in there.items() if name.startswith(_PREFIX) and value} - {*wanted, keep}
    return {name: value for name, value in wanted.items() if there.get(name) != value} | dict.fromkeys(gone, "")


def _used(run: Run) -> Sequence[Any]:
    return run.inputs.dataset_inputs if run.inputs is not None else ()


def _input(dataset: TrackedDataset) -> Any:
    """A dataset as MLflow notes that a run used it."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    scheme, _, rest = dataset.url.partition("://")
    return DatasetInput(
        Dataset(
            name=dataset.name,
            digest=_digest(dataset),
            source_type=scheme if rest else "local",
            source=json.dumps({"uri": dataset.url}),
            profile=json.dumps(
                {"dialogues": dataset.kept, "sha256": dataset.sha256, "manifest_url": dataset.manifest_url}
            ),
        ),
        [InputTag("mlflow.data.context", "training")],
    )


def _digest(dataset: TrackedDataset) -> str:
    """MLflow takes no more; the profile has all of it."""
    return dataset.sha256[:_LONGEST_DIGEST]


def _source(adapter: TrackedAdapter) -> str:
    """MLflow refuses a version whose source is a local path, for it would serve the file; nobody serves these."""
    return adapter.url if "://" in adapter.url else f"duologue:{adapter.url}"


def _tagged(name: str, value: str) -> str:
    return f"tags.`{name}` = '{value}'"


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)
