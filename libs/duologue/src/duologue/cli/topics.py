"""`duologue topics`: what a Kafka cluster must have for Duologue, and what it has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from duologue.cli.bus import bus_settings
from duologue.cli.output import AsJson, Failure, console, literal, print_json
from duologue.contracts.topics import TOPICS
from duologue.core.problems import did_you_mean
from duologue.runtime.settings import BUS_VARIABLE

if TYPE_CHECKING:
    from duologue.bus.kafka.topics import Difference, Topics

SERVICES = sorted({service for topic in TOPICS for service in (*topic.producers, *topic.consumers)})

app = typer.Typer(
    help=f"Topics of a bus on Kafka, which {BUS_VARIABLE} names. Nothing is ever deleted or made smaller.",
    no_args_is_help=True,
    epilog=f"Example: {BUS_VARIABLE}=kafka://host:9092 duologue topics plan",
)
Replicas = Annotated[
    int, typer.Option(min=0, help="Copies of every record; 0: three, or as many as there are brokers.")
]
Partitions = Annotated[
    int, typer.Option(min=0, help="Of the topics of dialogues, which bound how many can be in work at a time; 0: 24.")
]


@app.command("plan")
def plan(replicas: Replicas = 0, partitions: Partitions = 0, as_json: AsJson = False) -> None:
    """What `apply` would do.

    Example: duologue topics plan --partitions 48
    """
    with _topics() as topics:
        _show(topics.compare(replicas, partitions), as_json)


@app.command("apply")
def apply(replicas: Replicas = 0, partitions: Partitions = 0, as_json: AsJson = False) -> None:
    """Make topics that are missing, add partitions, correct settings. What else differs is said; exit status 1 then.

    Example: duologue topics apply
    """
    with _topics() as topics:
        differences = topics.compare(replicas, partitions)
        for difference in differences:
            if difference.is_mended:
                topics.mend(difference)
                if not as_json:
                    console.print(f"mended  {difference.topic.name} {literal(difference.what)}", soft_wrap=True)
        left = topics.compare_mended(replicas, partitions)
        _show(left, as_json)
    _fail_on(left)


@app.command("check")
def check(
    replicas: Replicas = 0,
    partitions: Partitions = 0,
    service: Annotated[
        str, typer.Option(help="Also whether these credentials may do what the service does, such as scoring.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Whether the cluster is as it should be; exit status 1 when it is not, 2 when it refuses something.

    Examples: duologue topics check; duologue topics check --service scoring
    """
    if service and service not in SERVICES:
        raise Failure(f"There is no service {service!r}. {did_you_mean(service, SERVICES)}", status=2)
    with _topics() as topics:
        if service:
            topics.require_rights_of(service)
        differences = topics.compare(replicas, partitions)
        _show(differences, as_json)
    _fail_on(differences)


def _topics() -> Topics:
    from duologue.bus.kafka.topics import Topics

    settings = bus_settings()
    return Topics.of(settings.bus.url, settings.kafka.options)


def _show(differences: list[Difference], as_json: bool) -> None:
    if as_json:
        print_json({"differences": [_document(difference) for difference in differences]})
        return
    for difference in differences:
        mark = "" if difference.is_mended else " (left alone)"
        console.print(f"{difference.topic.name} {literal(difference.what)}{mark}", soft_wrap=True)
    if not differences:
        console.print("All topics are as they should be.")


def _fail_on(differences: list[Difference]) -> None:
    if any(not difference.is_harmless for difference in differences):
        raise typer.Exit(1)


def _document(difference: Difference) -> dict[str, Any]:
    topic = difference.topic
    return {
        "topic": topic.name,
        "kind": difference.kind,
        "what": difference.what,
        "partitions": topic.partitions,
        "replicas": topic.replicas,
        "settings": [{"name": name, "value": value} for name, value in topic.settings.items()],
    }
