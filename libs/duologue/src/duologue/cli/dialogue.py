"""`duologue dialogue`: list and show what was said, scored and decided."""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import Annotated

import typer

from duologue.cli.artifacts import artifact_bytes
from duologue.cli.connection import campaign_service
from duologue.cli.files import replacing
from duologue.cli.output import AsJson, Failure, console, enum_name, number, plain, print_json, print_table
from duologue.cli.transcript import print_dialogue
from duologue.contracts.convert import dialogue_from_proto
from duologue.contracts.v1 import campaign_pb2 as pb
from duologue.contracts.v1 import campaign_pb2_grpc, dialogue_pb2
from duologue.core.labelled import Labelled, questions_to_label, write_lines
from duologue.core.workflow import Workflow

app = typer.Typer(
    help="Dialogues: what was said, where in the workflow, how it scored, why it was kept or dropped.",
    no_args_is_help=True,
    epilog="Examples: duologue dialogue list quickstart --decision dropped; duologue dialogue show 5d0f6d6e",
)
_SPLITS = {"": 0, "training": dialogue_pb2.SPLIT_TRAINING, "evaluation": dialogue_pb2.SPLIT_EVALUATION}


@app.command("list")
def list_dialogues(
    campaign: Annotated[str, typer.Argument(help="Id or name of a campaign.")],
    round_: Annotated[int, typer.Option("--round", min=0, help="Of one round; 0: of all.")] = 0,
    split: Annotated[str, typer.Option(help="training or evaluation.")] = "",
    decision: Annotated[str, typer.Option(help="kept, dropped or pending.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 1000,
    as_json: AsJson = False,
) -> None:
    """The dialogues of a campaign.

    Example: duologue dialogue list quickstart --decision dropped
    """
    if split not in _SPLITS:
        raise Failure(f'--split is "{split}"; it is training or evaluation.', status=2)
    if decision not in ("", "kept", "dropped", "pending"):
        raise Failure(f'--decision is "{decision}"; it is kept, dropped or pending.', status=2)
    records = _find(campaign, round_, split, decision, limit)
    if as_json:
        print_json({"dialogues": records})
        return
    print_table(
        f"Dialogues of {campaign}",
        ("id", "round", "dialogue", "end, subgoals", "decision", "reason"),
        [_row(record) for record in records],
    )


@app.command("show")
def show(
    dialogue: Annotated[str, typer.Argument(help="Id of a dialogue, or the beginning of one.")],
    as_json: AsJson = False,
) -> None:
    """One dialogue: turns beside the graph path, decisions with probabilities, scores, and the reason.

    Example: duologue dialogue show 5d0f6d6e
    """
    with campaign_service() as service:
        response = service.GetDialogue(pb.GetDialogueRequest(dialogue=dialogue))
    if as_json:
        print_json({**plain(response.record), "workflow": response.workflow})
    else:
        print_dialogue(response.record)


@app.command("questions")
def questions(
    campaign: Annotated[str, typer.Argument(help="Id or name of a campaign.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write, a state a line.")],
    dialogues: Annotated[
        int, typer.Option(min=1, help="Of so many dialogues, drawn from all of the training side.")
    ] = 50,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there, and its labels.")] = False,
) -> None:
    """What the manager was asked about the replies in a campaign's training dialogues, to be answered by people.

    Its own answers are left out, so that nobody is led by them. `duologue calibrate` reads the file once it is
    labelled; the same campaign gives the same file.

    Example: duologue dialogue questions quickstart -o questions.jsonl
    """
    if output.exists() and not force:
        raise Failure(f"{output} is there already.\n    Name another --output, or replace it with --force.", status=2)
    # Not of the evaluation: what is set by held-out dialogues can't be measured on them.
    ids = sorted(record.dialogue.id for record in _find(campaign, 0, "training", "", sys.maxsize))
    drawn = sorted(random.Random(0).sample(ids, min(dialogues, len(ids))))
    with campaign_service() as service:
        lines = [line for dialogue_id in drawn for line in _questions_of(service, dialogue_id)]
    if not lines:
        raise Failure(f"No dialogue of {campaign} has typed questions: it has none yet, or is of another preset.")
    with replacing(output) as new:
        new.write_text(write_lines(lines), encoding="utf-8")
    said = f"Wrote {output}: questions about {len(lines)} replies in {len(drawn)} dialogues"
    console.print(said, markup=False, soft_wrap=True)
    console.print("Put the right options in place of the nulls; leave null what has no right answer.")


def _questions_of(service: campaign_pb2_grpc.CampaignServiceStub, dialogue_id: str) -> list[Labelled]:
    response = service.GetDialogue(pb.GetDialogueRequest(dialogue=dialogue_id))
    workflow = Workflow.model_validate_json(artifact_bytes(response.workflow.artifact))
    return list(questions_to_label(dialogue_from_proto(response.record.dialogue), workflow))


def _find(campaign: str, round_: int, split: str, decision: str, limit: int) -> list[pb.DialogueRecord]:
    found: list[pb.DialogueRecord] = []
    token = ""
    with campaign_service() as service:
        while len(found) < limit:
            page = service.ListDialogues(
                pb.ListDialoguesRequest(
                    campaign=campaign,
                    round=round_,
                    split=_SPLITS[split],  # type: ignore[arg-type]
                    decision=decision,
                    page_size=min(limit - len(found), 500),
                    page_token=token,
                )
            )
            found.extend(page.dialogues)
            token = page.next_page_token
            if not token:
                break
    return found


def _row(record: pb.DialogueRecord) -> tuple[str, ...]:
    dialogue, scores = record.dialogue, record.scores
    return (
        dialogue.id[:8],
        str(dialogue.round),
        f"{dialogue.provenance.workflow_id} with {dialogue.provenance.persona_id}",
        f"{enum_name(dialogue, 'end_reason')}, {scores.subgoals_absolute} ({number(scores.subgoals_relative)})",
        record.decision,
        record.reason,
    )
