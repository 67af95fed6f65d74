"""Of several processes on one PostgreSQL one leads at a time, and another one once it is gone, however it went."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import pytest
from prometheus_client import REGISTRY
from sqlalchemy import text

from duologue.store import Database, DatabaseUnavailable, Leader, Term
from tests.support.eventually import eventually
from tests.support.postgres import PostgresServer, connect
from tests.support.requirements import ROOT

ROLE = "test"
LOCKS = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted"


@dataclass
class Reign:
    """Work that notes who does it, and that nobody else does."""

    leading: set[str] = field(default_factory=set)
    terms: list[str] = field(default_factory=list)

    def work(self, name: str) -> Callable[[Term], Awaitable[None]]:
        async def work(term: Term) -> None:
            assert term.holds
            assert not self.leading, "two lead at once"
            self.leading.add(name)
            self.terms.append(name)
            try:
                while term.holds:  # noqa: ASYNC110  a term tells nobody of its end
                    await asyncio.sleep(0.01)
            finally:
                self.leading.discard(name)

        return work

    async def of(self, *names: str) -> str:
        """Who of these leads, waited for."""

        async def leads() -> str:
            return "".join(self.leading & set(names))

        return await eventually(leads, f"one of {names} leads")


@pytest.fixture
def reign() -> Reign:
    return Reign()


@contextlib.asynccontextmanager
async def standing(url: str, reign: Reign, name: str, role: str = ROLE) -> AsyncIterator[asyncio.Task[None]]:
    """One more process that would lead."""
    database = Database(url)
    task = asyncio.create_task(Leader(database, role, reign.work(name)).run())  # type: ignore[arg-type]
    try:
        yield task
    finally:
        task.cancel()
        (outcome,) = await asyncio.gather(task, return_exceptions=True)
        await database.close()
    assert isinstance(outcome, asyncio.CancelledError)


def gauge(role: str = ROLE) -> float | None:
    return REGISTRY.get_sample_value("duologue_leader", {"role": role})


async def test_one_of_several_leads_and_the_next_one_when_it_stops(postgres_url: str, reign: Reign) -> None:
    async with standing(postgres_url, reign, "a"):
        assert await reign.of("a") == "a"
        async with standing(postgres_url, reign, "b"), standing(postgres_url, reign, "c"):

            async def both_have_asked() -> bool:
                with connect(postgres_url) as administrator:
                    last = administrator.execute("SELECT query FROM pg_stat_activity WHERE state = 'idle'").fetchall()
                asked = [query for (query,) in last if "pg_try_advisory_lock" in query]
                return len(asked) == 2 and ("SELECT 1",) in last

            await eventually(both_have_asked, "b and c ask in vain, a keeps its seat")
            assert reign.terms == ["a"]
    async with standing(postgres_url, reign, "b"):
        assert await reign.of("b") == "b"
    assert reign.leading == set()


async def test_a_leader_that_stops_is_followed_within_seconds(postgres_url: str, reign: Reign) -> None:
    async with contextlib.AsyncExitStack() as stack:
        first = contextlib.AsyncExitStack()
        await first.enter_async_context(standing(postgres_url, reign, "a"))
        await reign.of("a")
        await stack.enter_async_context(standing(postgres_url, reign, "b"))
        began = time.monotonic()
        await first.aclose()
        await reign.of("b")
        assert time.monotonic() - began < 10


async def test_roles_and_schemas_are_led_apart(postgres_url: str, postgres: str, reign: Reign) -> None:
    others = Reign(), Reign()
    async with (
        standing(postgres_url, reign, "a"),
        standing(postgres_url, others[0], "b", "another role"),
        standing(postgres, others[1], "c"),
    ):
        await reign.of("a")
        await others[0].of("b")
        await others[1].of("c")


async def test_the_gauge_says_who_leads(postgres_url: str, reign: Reign) -> None:
    async with standing(postgres_url, reign, "a", "gauged"):
        await reign.of("a")
        assert gauge("gauged") == 1
    assert gauge("gauged") == 0


async def test_a_leader_whose_connection_is_cut_stops_before_the_next_one_begins(
    postgres_url: str, reign: Reign
) -> None:
    async with standing(postgres_url, reign, "a"), standing(postgres_url, reign, "b"):
        for cuts in range(1, 4):
            await reign.of("a", "b")
            with connect(postgres_url) as administrator:
                ((pid,),) = administrator.execute(LOCKS).fetchall()
                administrator.execute("SELECT pg_terminate_backend(%s)", [pid])

            async def deposed(terms: int = cuts + 1) -> bool:
                return len(reign.terms) == terms

            await eventually(deposed, "another term has begun")


async def test_a_server_that_dies_ends_the_term_and_one_of_them_leads_when_it_is_back(
    own_postgres: PostgresServer, reign: Reign
) -> None:
    async with standing(own_postgres.url, reign, "a"), standing(own_postgres.url, reign, "b"):
        await reign.of("a", "b")
        own_postgres.kill()

        async def nobody() -> bool:
            return not reign.leading

        await eventually(nobody, "nobody leads")
        own_postgres.run()
        own_postgres.wait()
        await reign.of("a", "b")


async def test_a_server_that_stands_still_ends_the_term(own_postgres: PostgresServer, reign: Reign) -> None:
    async with standing(own_postgres.url, reign, "a"):
        await reign.of("a")
        own_postgres.pause()

        async def nobody() -> bool:
            return not reign.leading

        try:
            await eventually(nobody, "nobody leads")
        finally:
            own_postgres.resume()
        await reign.of("a")


async def test_what_the_work_raises_ends_the_leader_but_an_outage_does_not(database_url: str) -> None:
    database = Database(database_url)
    attempts = []

    async def fail(_: Term) -> None:
        attempts.append(len(attempts))
        raise DatabaseUnavailable("gone") if len(attempts) < 3 else KeyError("ours")

    with pytest.raises(KeyError, match="ours"):
        await asyncio.wait_for(Leader(database, ROLE, fail).run(), 30)
    assert len(attempts) == 3
    await database.close()


async def test_on_sqlite_there_is_one_process_and_it_leads(tmp_path: object) -> None:
    reign = Reign()
    async with standing(f"sqlite:///{tmp_path}/x.db", reign, "a"):
        await reign.of("a")
        assert gauge() == 1


def test_a_term_that_is_over_is_not_prolonged() -> None:
    term = Term(seconds=0)
    term.prolong(time.monotonic() + 60)
    assert not term.holds


@contextlib.asynccontextmanager
async def process(url: str, name: str) -> AsyncIterator[asyncio.subprocess.Process]:
    command = [sys.executable, "-m", "tests.support.leading_process", url, name]
    started = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=asyncio.subprocess.PIPE)
    try:
        yield started
    finally:
        with contextlib.suppress(ProcessLookupError):
            started.kill()
        await started.wait()


async def says(one: asyncio.subprocess.Process, line: str) -> None:
    assert one.stdout is not None
    async with asyncio.timeout(30):
        while (await one.stdout.readline()).decode().strip() != line:
            assert one.returncode is None


@pytest.fixture
async def marks(postgres_url: str) -> AsyncIterator[Callable[[], Awaitable[list[str]]]]:
    database = Database(postgres_url)
    await database.run(lambda session: session.execute(text("CREATE TABLE mark (name TEXT)")))

    async def marks() -> list[str]:
        return await database.run(lambda session: list(session.scalars(text("SELECT name FROM mark ORDER BY ctid"))))

    yield marks
    await database.close()


async def test_a_killed_leader_is_followed_within_seconds(
    postgres_url: str, marks: Callable[[], Awaitable[list[str]]]
) -> None:
    async with process(postgres_url, "a") as first:
        await says(first, "leads")
        async with process(postgres_url, "b") as second:
            first.kill()
            async with asyncio.timeout(15):
                await says(second, "leads")


async def test_a_leader_that_stood_still_is_replaced_and_does_nothing_more_when_it_goes_on(
    postgres_url: str, marks: Callable[[], Awaitable[list[str]]]
) -> None:
    """Its session is there as long as it is: the server drops it for its silence."""
    async with process(postgres_url, "a") as first:
        await says(first, "leads")

        async def marked() -> bool:
            return "a" in await marks()

        await eventually(marked, "a works")
        async with process(postgres_url, "b") as second:
            first.send_signal(signal.SIGSTOP)
            await says(second, "leads")
            before = (await marks()).count("a")
            first.send_signal(signal.SIGCONT)
            await says(first, "term over")
        # What it had handed to its database before it stood still may be done, nothing after that.
        assert (await marks()).count("a") <= before + 1
