"""`duologue dialogue`: list and show what was said, scored and decided."""

from __future__ import annotations

from typing import Annotated

import typer

from duologue.cli.connection import campaign_service
from duologue.cli.output import AsJson, Failure, enum_name, number, plain, print_json, print_table
from duologue.cli.transcript import print_dialogue
from duologue.contracts.v1 import campaign_pb2 as pb
from duologue.contracts.v1 import dialogue_pb2

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
