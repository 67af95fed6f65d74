"""A dialogue as people read it: turns beside the graph path, decisions, scores, and why it was kept or dropped."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from duologue.cli.costs import cached_text, cost_text
from duologue.cli.output import console, enum_name, literal, number, printable
from duologue.contracts.v1 import campaign_pb2 as pb
from duologue.contracts.v1 import dialogue_pb2

_COLOURS = {"client": "cyan", "agent": "magenta", "tool": "yellow"}
_COLUMNS = ("turn", "text", "node", "decisions")
_ROLE_WIDTH = 6
_GAPS = 2 * (len(_COLUMNS) - 1)
_WIDEST_IDS = 34
_WIDEST_TEXT, _LEAST_OF_TEXT = 60, 12


def latest_lines(record: pb.DialogueRecord, turns: int) -> list[Text]:
    """The last turns of a dialogue, a line each, and how it ended."""
    dialogue, scores = record.dialogue, record.scores
    provenance = dialogue.provenance
    lines = [Text.assemble((printable(provenance.workflow_id), "bold"), f" with {printable(provenance.persona_id)}")]
    if (left_out := len(dialogue.turns) - turns) > 0:
        lines.append(Text(f"     ...  {left_out} turns before", style="dim"))
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
    preset = f", preset {enum_name(provenance, 'preset')}" if provenance.preset else ""
    origin = (
        f"workflow {provenance.workflow_id}@{provenance.workflow_version}, intention {provenance.intention_id}, "
        f"persona {provenance.persona_id}, agent {adapter}, seed {provenance.seed}{preset}"
    )
    console.print(f"{printable(origin)}\n", markup=False)
    nodes = _nodes(record)
    decisions = [Text("\n".join(map(_decided, turn.decisions))) for turn in dialogue.turns]
    ids = [min(_width(cells), _WIDEST_IDS) for cells in (nodes, decisions)]
    # Ids stay whole, to be read down the column and pasted; the text gives way.
    room = max(console.width - _ROLE_WIDTH - sum(ids) - _GAPS, _LEAST_OF_TEXT)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column, width in zip(_COLUMNS, (_ROLE_WIDTH, min(room, _WIDEST_TEXT), *ids), strict=True):
        table.add_column(column, max_width=width, overflow="fold")
    for turn, node, decided in zip(dialogue.turns, nodes, decisions, strict=True):
        role = enum_name(turn, "role")
        table.add_row(Text(role, style=_COLOURS[role]), Text(printable(turn.text)), node, decided)
    console.print(table)
    _print_scores(record)


def _width(cells: Sequence[Text]) -> int:
    return max((cell_len(line) for cell in cells for line in cell.plain.split("\n")), default=0)


def _nodes(record: pb.DialogueRecord) -> list[Text]:
    """By turn, the node that it was about; below, in red, what scoring heard instead and what was repaired."""
    heard = iter(record.scores.nodes)
    return [
        _performed(turn, next(heard, ""))
        if turn.role == dialogue_pb2.ROLE_AGENT
        else Text(printable(turn.node) if turn.role == dialogue_pb2.ROLE_TOOL else "")
        for turn in record.dialogue.turns
    ]


def _performed(turn: dialogue_pb2.Turn, node: str) -> Text:
    if node == turn.node:
        lines = [(printable(node), "green")]
    else:
        lines = [(printable(turn.node), ""), (f"heard {printable(node) or 'none'}", "red")]
    lines += [(printable(repair), "red") for repair in turn.repairs]
    return Text("\n").join(Text(line, style=style) for line, style in lines)


def _decided(decision: dialogue_pb2.Decision) -> str:
    return printable(f"{decision.question}: {decision.answer} {decision.probabilities[decision.answer]:.2f}")


def _print_scores(record: pb.DialogueRecord) -> None:
    dialogue, scores = record.dialogue, record.scores
    console.print(
        f"\nend reason {enum_name(dialogue, 'end_reason')}; subgoals {scores.subgoals_absolute}, "
        f"relative {number(scores.subgoals_relative)}, of its branch {number(scores.subgoals_branch)}\n"
        f"ended {_yes(scores.ended)}, success {_yes(scores.success)}; repeats {scores.repeats}, "
        f"role leaks {scores.role_leaks}"
    )
    client = number(scores.character_client) if scores.HasField("character_client") else "-"
    agent = number(scores.character_agent) if scores.HasField("character_agent") else "-"
    tokens = sum(turn.prompt_tokens + turn.completion_tokens for turn in dialogue.turns)
    seconds = sum(turn.seconds for turn in dialogue.turns)
    console.print(
        f"character of client {client}, of agent {agent}\n"
        f"words {scores.words}, n-grams {scores.ngrams}; {tokens:,} tokens, {seconds:.1f} s"
    )
    if dialogue.usage:
        console.print(cached_text(dialogue.usage))
    if record.HasField("cost"):
        console.print(printable(f"cost {cost_text(record.cost)}"), markup=False)
    colour = {"kept": "green", "dropped": "red"}.get(record.decision, "dim")
    console.print(f"[{colour}]{record.decision}[/]" + (f": {literal(record.reason)}" if record.reason else ""))


def _yes(value: bool) -> str:
    return "yes" if value else "no"
