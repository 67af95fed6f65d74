"""A dialogue as people read it: turns beside the graph path, decisions, scores, and why it was kept or dropped."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from duologue.cli.output import console, enum_name, literal, number, printable
from duologue.contracts.v1 import campaign_pb2 as pb
from duologue.contracts.v1 import dialogue_pb2

_COLOURS = {"client": "cyan", "agent": "magenta", "tool": "yellow"}


def latest_lines(record: pb.DialogueRecord, turns: int) -> list[Text]:
    """The last turns of a dialogue, a line each, and how it ended."""
    dialogue, scores = record.dialogue, record.scores
    provenance = dialogue.provenance
    lines = [Text.assemble((printable(provenance.workflow_id), "bold"), f" with {printable(provenance.persona_id)}")]
    for turn in dialogue.turns[-turns:]:
        role = enum_name(turn, "role")
        lines.append(Text.assemble("  ", (f"{role:>6}", _COLOURS[role]), f"  {printable(turn.text)}"))
    ending = (
        f"  {enum_name(dialogue, 'end_reason')}, subgoals {scores.subgoals_absolute}"
        f" ({scores.subgoals_relative:.2f}), ended {_yes(scores.ended)}, success {_yes(scores.success)}"
    )
    return [*lines, Text(ending, style="dim")]


def print_dialogue(record: pb.DialogueRecord) -> None:
    dialogue = record.dialogue
    provenance = dialogue.provenance
    console.print(f"[bold]{dialogue.id}[/] {enum_name(dialogue, 'split')}, round {dialogue.round}, #{dialogue.index}")
    adapter = provenance.adapter_id or "base model"
    origin = (
        f"workflow {provenance.workflow_id}@{provenance.workflow_version}, intention {provenance.intention_id}, "
        f"persona {provenance.persona_id}, agent {adapter}, seed {provenance.seed}"
    )
    console.print(f"{printable(origin)}\n", markup=False)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column, width in (("turn", 6), ("text", 60), ("node", 20), ("performed", 20), ("decisions", 34)):
        table.add_column(column, max_width=width, overflow="fold")
    performed = iter(record.scores.nodes)
    for turn in dialogue.turns:
        role = enum_name(turn, "role")
        done = next(performed, "") if turn.role == dialogue_pb2.ROLE_AGENT else ""
        table.add_row(
            Text(role, style=_COLOURS[role]),
            Text(printable(turn.text)),
            Text(printable(turn.node) if turn.role != dialogue_pb2.ROLE_CLIENT else ""),
            _performed(turn, done),
            Text(_decisions(turn)),
        )
    console.print(table)
    _print_scores(record)


def _performed(turn: dialogue_pb2.Turn, node: str) -> Text:
    """The node that scoring heard in an utterance; marked when it is not the one that was to be said."""
    if turn.role != dialogue_pb2.ROLE_AGENT:
        return Text()
    repairs = f" ({', '.join(turn.repairs)})" if turn.repairs else ""
    colour = "green" if node == turn.node else "red"
    return Text.assemble((printable(node) or "none", colour), (printable(repairs), "red"))


def _decisions(turn: dialogue_pb2.Turn) -> str:
    return "; ".join(
        printable(f"{item.question}: {item.answer} {item.probabilities[item.answer]:.2f}") for item in turn.decisions
    )


def _print_scores(record: pb.DialogueRecord) -> None:
    dialogue, scores = record.dialogue, record.scores
    console.print(
        f"\nended by {enum_name(dialogue, 'end_reason')}; subgoals {scores.subgoals_absolute}, "
        f"relative {number(scores.subgoals_relative)}, of its branch {number(scores.subgoals_branch)}; "
        f"ended {_yes(scores.ended)}, success {_yes(scores.success)}; repeats {scores.repeats}, "
        f"role leaks {scores.role_leaks}"
    )
    client = number(scores.character_client) if scores.HasField("character_client") else "-"
    agent = number(scores.character_agent) if scores.HasField("character_agent") else "-"
    tokens = sum(turn.prompt_tokens + turn.completion_tokens for turn in dialogue.turns)
    seconds = sum(turn.seconds for turn in dialogue.turns)
    console.print(
        f"character of client {client}, of agent {agent}; words {scores.words}, n-grams {scores.ngrams}; "
        f"{tokens:,} tokens, {seconds:.1f} s"
    )
    colour = {"kept": "green", "dropped": "red"}.get(record.decision, "dim")
    console.print(f"[{colour}]{record.decision}[/]" + (f": {literal(record.reason)}" if record.reason else ""))


def _yes(value: bool) -> str:
    return "yes" if value else "no"
