"""The command line: its commands, and how a mistake ends."""

from __future__ import annotations

import sys

import grpc
import structlog
import typer

from duologue.cli import (
    adapter,
    calibrate,
    campaign,
    dataset,
    dialogue,
    dlq,
    doctor,
    persona,
    run,
    score,
    stack,
    topics,
    workflow,
)
from duologue.cli.connection import unknown_caller, unreachable
from duologue.cli.output import Failure, complain
from duologue.core.problems import InvalidInput, WrongSetting

# Exit statuses: 0 done, 1 failed, 2 bad usage or input, 130 interrupted.
FAILED, BAD_INPUT = 1, 2

app = typer.Typer(
    name="duologue",
    help="Training dialogues for task-oriented agents, by self-talk along workflows.",
    epilog="Begin with: duologue up, then duologue run examples/campaigns/quickstart.yaml",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("up")(stack.up)
app.command("down")(stack.down)
app.command("status")(stack.status)
app.command("doctor")(doctor.doctor)
app.command("run")(run.run)
app.command("score")(score.score)
app.command("calibrate")(calibrate.calibrate)
app.add_typer(campaign.app, name="campaign")
app.add_typer(dialogue.app, name="dialogue")
app.add_typer(dataset.app, name="dataset")
app.add_typer(adapter.app, name="adapter")
app.add_typer(workflow.app, name="workflow")
app.add_typer(persona.app, name="persona")
app.add_typer(dlq.app, name="dlq")
app.add_typer(topics.app, name="topics")


def main() -> None:
    """Run a command; a person's mistake ends with a sentence and a status, never with a stack.

    Typer itself ends wrong usage with 2 and Ctrl-C with 130.
    """
    # What the library logs is no output of a command.
    structlog.configure(logger_factory=structlog.WriteLoggerFactory(sys.stderr))
    try:
        app()
    except (InvalidInput, WrongSetting) as error:
        complain(str(error))
        sys.exit(BAD_INPUT)
    except Failure as error:
        sys.exit(_end(error))
    except grpc.RpcError as error:
        sys.exit(_rpc_status(error))


def _end(failure: Failure) -> int:
    complain(str(failure))
    return failure.status


def _rpc_status(error: grpc.RpcError) -> int:
    code, details = getattr(error, "code", lambda: None)(), getattr(error, "details", lambda: str(error))()
    if code is grpc.StatusCode.UNAVAILABLE:
        return _end(unreachable(str(details)))
    if code is grpc.StatusCode.UNAUTHENTICATED:
        return _end(unknown_caller(str(details)))
    complain(str(details))
    return BAD_INPUT if code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND) else FAILED
