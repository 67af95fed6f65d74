"""`duologue dlq`: what could not be worked with."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from google.protobuf.message import DecodeError

from duologue.bus import Bus, open_bus
from duologue.bus.dead_letters import DeadLetter, dead_letters, replay
from duologue.cli.bus import bus_settings
from duologue.cli.invocation import command
from duologue.cli.output import AsJson, Failure, console, minute, plain, print_json, print_table, printable
from duologue.contracts.topics import TOPICS
from duologue.runtime.settings import BUS_VARIABLE

T = TypeVar("T")

app = typer.Typer(
    help="Dead letters: records that could not be worked with, and why.",
    no_args_is_help=True,
    epilog="Examples: duologue dlq list; duologue dlq show ID; duologue dlq replay ID; duologue dlq replay --all",
)
Id = Annotated[str, typer.Argument(help="Id of a dead letter, as `dlq list` gives it.")]


@app.command("list")
def list_letters(as_json: AsJson = False) -> None:
    """All dead letters, oldest first.

    Example: duologue dlq list
    """
    letters = _with_bus(_all)
    if as_json:
        print_json({"dead_letters": [_document(letter) for letter in letters]})
        return
    print_table(
        "Dead letters",
        ("id", "failed", "reason"),
        [
            (letter.id, minute(_when(letter)) + (", replayed" if letter.replayed else ""), letter.reason)
            for letter in letters
        ],
    )


@app.command("show")
def show(letter: Id, as_json: AsJson = False) -> None:
    """One dead letter: its headers and, where it can be decoded, its message.

    Example: duologue dlq show duologue.dialogue.generated.v1/scoring/3/17
    """
    found = _with_bus(lambda bus: _find(bus, letter))
    document = _document(found) | {"headers": found.delivery.record.headers, "message": _message(found)}
    if as_json:
        print_json(document)
        return
    for name, value in document.items():
        console.print(printable(f"{name}: {value}"), markup=False, soft_wrap=True)


@app.command("replay")
def replay_letters(
    letter: Annotated[str, typer.Argument(help="Id of a dead letter.")] = "",
    every: Annotated[bool, typer.Option("--all", help="All that were not replayed yet.")] = False,
) -> None:
    """Give dead letters to their groups again; one that was replayed already is left alone.

    Example: duologue dlq replay --all
    """
    if bool(letter) == every:
        raise Failure("Name a dead letter, or give --all.", status=2)

    async def work(bus: Bus) -> int:
        chosen = await _all(bus) if every else [await _find(bus, letter)]
        return await replay(bus, chosen)

    console.print(f"Replayed {_with_bus(work)}")


def count() -> int:
    """Dead letters that were not replayed."""
    return sum(not letter.replayed for letter in _with_bus(_all))


def _with_bus(work: Callable[[Bus], Awaitable[T]]) -> T:
    async def run() -> T:
        settings = bus_settings()
        _require_log(settings.bus.url)
        bus = await open_bus(settings.bus.url, settings.kafka.options)
        try:
            return await work(bus)
        finally:
            await bus.close()

    return asyncio.run(run())


def _require_log(url: str) -> None:
    """Opening an embedded log would make it: a wrong path would look like a log without dead letters."""
    scheme, _, path = url.partition(":///")
    if scheme == "sqlite" and path and not Path(path).is_file():
        raise Failure(
            f"There is no bus at {path}.\n"
            f"    `{command('up')}` makes the one of this folder; for another set {BUS_VARIABLE} to sqlite:///PATH."
        )


async def _all(bus: Bus) -> list[DeadLetter]:
    return [letter async for letter in dead_letters(bus)]


async def _find(bus: Bus, letter_id: str) -> DeadLetter:
    async for letter in dead_letters(bus):
        if letter.id == letter_id:
            return letter
    raise Failure(f'There is no dead letter "{letter_id}": see `{command("dlq list")}`.', status=2)


def _document(letter: DeadLetter) -> dict[str, Any]:
    return {
        "id": letter.id,
        "topic": letter.topic,
        "group": letter.group,
        "key": letter.key,
        "reason": letter.reason,
        "origin": letter.origin,
        "failed_at": _when(letter),
        "replayed": letter.replayed,
    }


def _message(letter: DeadLetter) -> Any:
    topic = next(topic for topic in TOPICS if topic.name == letter.topic)
    try:
        return plain(topic.message.FromString(letter.delivery.record.value))
    except DecodeError:
        return letter.delivery.record.value[:200].hex()


def _when(letter: DeadLetter) -> str:
    return datetime.fromtimestamp(letter.failed_at, UTC).isoformat(timespec="seconds")
