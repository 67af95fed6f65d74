"""Telling MLflow of campaigns and releases.

Nothing waits for it. What is to be told is found by comparing the tables with what was told last, so a server that was
away, or a process that was killed, leaves nothing out and nothing twice.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, TypeVar

import structlog
from prometheus_client import Gauge
from sqlalchemy import or_, select, union
from sqlalchemy.orm import Session

from duologue.bus import RetryPolicy
from duologue.store import ArtifactStore, Database, DatabaseUnavailable, Term
from duologue_campaign.mlflow_server import MlflowServer, NotTold, ServerUnavailable, TermOver
from duologue_campaign.prices import Prices
from duologue_campaign.settings import MlflowSettings
from duologue_campaign.specs import Specs
from duologue_campaign.tables import CampaignRow, CanaryRow, ReleaseRow, ToldRow
from duologue_campaign.tracked import TrackedAgent, TrackedCampaign, digest_of, tracked_agent, tracked_campaign

log = structlog.get_logger(__name__)

_DUE = Gauge("duologue_tracking_due", "Campaigns and agents of which there is something that MLflow was not told yet.")

_CHECK_SECONDS = 5.0
_RETRY = RetryPolicy(first=_CHECK_SECONDS, longest=60.0)
_RETRY_ONE = RetryPolicy(first=_CHECK_SECONDS, longest=600.0)
# Decisions of filters, and with them expenses, may come in after the campaign's end.
_SETTLED_SECONDS = 3600.0
_CAMPAIGN, _AGENT = "campaign", "agent"

T = TypeVar("T")


class Subject(NamedTuple):
    """What is told of: a campaign by its id, or an agent by its name."""

    kind: str
    name: str


@dataclass(frozen=True, slots=True)
class TrackingStatus:
    """`due`: campaigns and agents of which there is more to tell. `problem`: why the server can't be told, or empty."""

    url: str
    due: int
    problem: str


@dataclass(frozen=True, slots=True)
class _Failed:
    """Times that a subject could not be told, why, and when to try again, in seconds of the monotonic clock."""

    attempts: int = 0
    reason: str = ""
    again_at: float = 0.0


class Tracking:
    """Looks now and then for what MLflow was not told yet. Without a server there is nothing to do."""

    def __init__(
        self,
        database: Database,
        specs: Specs,
        prices: Prices,
        artifacts: ArtifactStore,
        settings: MlflowSettings,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._specs = specs
        self._prices = prices
        self._artifacts = artifacts
        self._server = MlflowServer(settings)
        self._clock = clock
        self._failed: dict[Subject, _Failed] = {}
        self._outage: ServerUnavailable | None = None
        # One call at a time: for one that was abandoned with its term the next one waits.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="mlflow")

    @property
    def duties(self) -> list[Callable[[Term], Coroutine[Any, Any, None]]]:
        """What the leader does for it."""
        return [self.run] if self._server.url else []

    async def run(self, term: Term) -> None:
        """Look for as long as the term holds."""
        outages = 0
        try:
            while term.holds:
                try:
                    await self.look(term)
                    outages = 0
                except ServerUnavailable as error:
                    outages += 1
                    self._tell_of_outage(error)
                await asyncio.sleep(_RETRY.delay(outages, random.random()) if outages else _CHECK_SECONDS)
        finally:
            _DUE.set(0)  # who leads next has its own

    async def look(self, term: Term) -> None:
        """Tell all that is due. Raises `ServerUnavailable`, and what was not told is due still."""
        due = await self._find_due()
        _DUE.set(len(due))
        if due:
            await self._ask(self._server.check)
            if self._outage is not None:
                log.info("MLflow answers again", due=len(due))
                self._outage = None
            is_over = threading.Event()
            try:
                for subject in due:
                    await self._try(subject, lambda: term.holds and not is_over.is_set())
            finally:
                is_over.set()
        await self._database.run(self._settle)

    async def status(self) -> TrackingStatus:
        """For whoever asks, of any replica."""
        if not self._server.url:
            return TrackingStatus("", 0, "")
        due, problem = len(await self._find_due()), ""
        try:
            await self._ask(self._server.check)
        except ServerUnavailable as error:
            problem = str(error)
        return TrackingStatus(self._server.url, due, problem)

    async def _try(self, subject: Subject, leads: Callable[[], bool]) -> None:
        """What can't be told holds up nothing else: it is tried again after pauses that grow."""
        failed = self._failed.get(subject, _Failed())
        if time.monotonic() < failed.again_at:
            return
        try:
            await self._tell(subject, leads)
        except (DatabaseUnavailable, ServerUnavailable):
            raise  # no fault of the subject
        except TermOver:
            return
        except Exception as error:
            pause = _RETRY_ONE.delay(failed.attempts + 1, random.random())
            reason = f"{type(error).__name__}: {error}"
            if reason != failed.reason:
                ours = None if isinstance(error, NotTold) else error
                log.error("MLflow was not told", **subject._asdict(), reason=reason, exc_info=ours)
            self._failed[subject] = _Failed(failed.attempts + 1, reason, time.monotonic() + pause)
            return
        self._failed.pop(subject, None)

    async def _tell(self, subject: Subject, leads: Callable[[], bool]) -> None:
        tracked = await self._database.run(lambda session: self._tracked(session, subject))
        tell = self._server.tell_campaign if isinstance(tracked, TrackedCampaign) else self._server.tell_agent
        await self._ask(partial(tell, tracked, leads))  # type: ignore[arg-type]
        told = ToldRow(
            kind=subject.kind,
            name=subject.name,
            server=self._server.url,
            digest=digest_of(tracked),
            told_at=self._clock(),
        )
        await self._database.run(lambda session: session.merge(told))

    async def _ask(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    async def _find_due(self) -> list[Subject]:
        """In the order in which to tell: a version of a model names the run that made it."""
        subjects = await self._database.run(self._unsettled)
        return [subject for subject in subjects if await self._database.run(partial(self._is_due, subject=subject))]

    def _unsettled(self, session: Session) -> list[Subject]:
        """Campaigns that may have changed since they were told of, oldest first, and agents that had a release."""
        query = (
            select(CampaignRow.id)
            .outerjoin(ToldRow, self._told_of(_CAMPAIGN) & (ToldRow.name == CampaignRow.id))
            .where(or_(CampaignRow.finished_at.is_(None), ToldRow.name.is_(None), _is_young()))
        )
        campaigns = session.scalars(query.order_by(CampaignRow.created_at))
        agents = session.scalars(union(select(ReleaseRow.agent), select(CanaryRow.agent)).order_by("agent"))
        return [*(Subject(_CAMPAIGN, name) for name in campaigns), *(Subject(_AGENT, name) for name in agents)]

    def _is_due(self, session: Session, subject: Subject) -> bool:
        told = session.get(ToldRow, subject)
        if told is None or told.server != self._server.url:
            return True
        try:
            return digest_of(self._tracked(session, subject)) != told.digest
        except Exception:  # telling will say why
            return True

    def _tracked(self, session: Session, subject: Subject) -> TrackedCampaign | TrackedAgent:
        if subject.kind == _AGENT:
            return tracked_agent(session, subject.name, self._artifacts.url_of)
        row = session.get_one(CampaignRow, subject.name)
        return tracked_campaign(session, row, self._specs.of(row), self._prices, self._artifacts.url_of)

    def _settle(self, session: Session) -> None:
        """Look no more at campaigns whose end was told long ago."""
        over = select(CampaignRow.id).where(CampaignRow.finished_at < self._clock() - _SETTLED_SECONDS)
        query = select(ToldRow).join(CampaignRow, CampaignRow.id == ToldRow.name)
        for told in session.scalars(query.where(self._told_of(_CAMPAIGN), ToldRow.name.in_(over), _is_young())):
            if not self._is_due(session, Subject(_CAMPAIGN, told.name)):
                told.told_at = self._clock()

    def _told_of(self, kind: str) -> Any:
        return (ToldRow.kind == kind) & (ToldRow.server == self._server.url)

    def _tell_of_outage(self, error: ServerUnavailable) -> None:
        """Once for each kind of trouble."""
        if self._outage is None or self._outage.is_refusal != error.is_refusal:
            log.warning("MLflow can't be told for now", reason=str(error))
        self._outage = error


def _is_young() -> Any:
    """What was told of a campaign so soon after its end that it may have changed since."""
    return ToldRow.told_at < CampaignRow.finished_at + _SETTLED_SECONDS
