"""A process that leads or waits: `python -m tests.support.leading_process URL NAME`. For tests that stop and kill it.

It says on standard output when its term begins and ends, and while the term holds writes its name into the table
`mark` now and then.
"""

from __future__ import annotations

import asyncio
import sys

from sqlalchemy import text

from duologue.store import Database, Leader, Term


async def main(url: str, name: str) -> None:
    database = Database(url)

    async def mark(term: Term) -> None:
        print("leads", flush=True)
        while term.holds:
            await database.run(lambda session: session.execute(text("INSERT INTO mark VALUES (:name)"), {"name": name}))
            await asyncio.sleep(0.05)
        print("term over", flush=True)

    await Leader(database, "marker", mark).run()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
