"""Every mistake that a workflow file can have is named with its line and how to mend it."""

import pytest

from duologue.core.problems import InvalidInput
from duologue.core.workflow_file import load_workflow

SOUND = """\
workflow: parcel
title: Bring a parcel again
agent:
  role: a dispatcher
  persona: I plan the vans.
intentions:
  - id: books
    goal: get a box of books
    facts:
      code: HP1
      day: Monday
    outcomes:
      track: found
  - id: lamp
    goal: get a lamp
    facts: {code: HP2, day: Friday}
start: ask_code
nodes:
  ask_code:
    say: Which code?
    replies:
      gives_code:
        to: track
        examples: ["{code}", "It is {code}."]
      no_code:
        to: bye_lost
        default: true
  track:
    call: track_parcel
    arguments: {code: "{code}"}
    outcomes:
      found:
        to: ask_day
        returns: {depot: North Gate}
      unknown:
        to: ask_code
        loop: true
  ask_day:
    say: It is at {depot}. Which day?
    replies:
      day:
        to: bye
        examples: ["{day}"]
  bye:
    end: See you on {day}.
  bye_lost:
    end: Then I can't help.
    outcome: failure
anytime:
  wait:
    say: One moment, please.
    when: [Hurry up!]
"""

# What is put in the place of what, in the sound file; the comment `# here` marks the line that is to be named.
MISTAKES = {
    "edge to nowhere": (
        "        to: track\n",
        "        to: trak  # here\n",
        'edge "gives_code" of node "ask_code" leads to "trak", which is not a node',
        'Did you mean "track" (line 28)?',
    ),
    "edge to nothing like it": (
        "        to: track\n",
        "        to: xyz  # here\n",
        'leads to "xyz", which is not a node',
        "Use one of: ask_code, ask_day, bye, bye_lost, track.",
    ),
    "edge to an anytime node": (
        "        to: track\n",
        "        to: wait  # here\n",
        'leads to "wait", which is not a node',
        "Anytime nodes are never led to: they may be said anywhere.",
    ),
    "unknown start": (
        "start: ask_code\n",
        "start: ask_cod  # here\n",
        'start is "ask_cod", which is not a node',
        'Did you mean "ask_code" (line 19)?',
    ),
    "unreachable": (
        "  bye:\n",
        "  bye_too:  # here\n    end: Bye.\n  bye:\n",
        'node "bye_too" can\'t be reached from the start, "ask_code"',
        "Lead an edge to it, move it to `anytime`, or remove it.",
    ),
    "undeclared loop": (
        "      unknown:\n        to: ask_code\n        loop: true\n",
        "      unknown:  # here\n        to: ask_code\n",
        'edge "unknown" of node "track" closes an undeclared loop: ask_code -> track -> ask_code',
        "Add `loop: true` to the edge if it leads back on purpose.",
    ),
    "loop to itself": (
        '        examples: ["{day}"]\n',
        '        examples: ["{day}"]\n      again:  # here\n        to: ask_day\n        examples: [Pardon]\n',
        'edge "again" of node "ask_day" closes an undeclared loop: ask_day -> ask_day',
        "Add `loop: true`",
    ),
    "needless loop": (
        "        to: bye\n",
        "        to: bye\n        loop: true  # here\n",
        'edge "day" of node "ask_day" is declared as a loop, but "bye" does not lead back',
        "Remove `loop: true`.",
    ),
    "dead end": (
        "        to: bye\n",
        "        to: stuck\n",
        'node "stuck" is a dead end: it has no replies',
        "Add a reply, or make it an `end` node.",
        "  bye:\n",
        "  stuck:\n    say: What?\n    replies: {}  # here\n  bye:\n",
    ),
    "a loop without a way out": (
        "        to: bye\n",
        "        to: round\n",
        'node "round" is a dead end: no way leads from it to an `end` node without a loop',
        "Lead one of its edges on to an end.",
        "  bye:\n",
        "  round:  # here\n    say: What?\n    replies: {a: {to: round, loop: true, default: true}}\n  bye:\n",
    ),
    "no outcomes": (
        "        to: bye\n",
        "        to: stuck\n",
        'node "stuck" has no outcomes',
        "Give the call at least one outcome.",
        "  bye:\n",
        "  stuck:\n    call: stuck\n    outcomes: {}  # here\n  bye:\n",
    ),
    "two defaults": (
        '        examples: ["{day}"]\n',
        "        default: true\n      other:  # here\n        to: bye\n        default: true\n",
        'node "ask_day" has two default edges, "day" and "other"',
        "Keep `default: true` on one of them.",
    ),
    "no examples": (
        '      day:\n        to: bye\n        examples: ["{day}"]\n',
        "      day:  # here\n        to: bye\n",
        'reply "day" of node "ask_day" has no examples',
        "Add `examples:` with the wordings of a client, or mark it `default: true`.",
    ),
    "intention twice": (
        "  - id: lamp\n",
        "  - id: books  # here\n",
        'intention "books" is defined twice',
        "It stands on line 7 too: rename one.",
    ),
    "outcome of no call": (
        "      track: found\n",
        "      trak: found  # here\n",
        '"trak" is not a call node',
        'Did you mean "track"?',
    ),
    "outcome that the call does not have": (
        "      track: found\n",
        "      track: fund  # here\n",
        'call node "track" has no outcome "fund"',
        'Did you mean "found"?',
    ),
    "anytime node with the id of a node": (
        "  wait:\n",
        "  bye:  # here\n",
        'anytime node "bye" has the id of a node',
        "It stands on line 44 too: rename one.",
    ),
    "a placeholder that is filled on another way only": (
        "    end: Then I can't help.\n",
        "    end: Then ask at {depot}.  # here\n",
        "on some way to this node nothing has filled {depot}",
        "Return it from every outcome that leads here, or add it to the facts of each intention.",
    ),
    "a placeholder of another spelling": (
        "    end: Then I can't help.\n",
        "    end: Then I can't help, {Name}.  # here\n",
        'a stray "{" in a text',
        "A placeholder is the name of a fact in lower case: {name}.",
    ),
    "nobody fills a placeholder": (
        "    end: Then I can't help.\n",
        "    end: Then I can't help, {name}.  # here\n",
        "nothing fills {name}",
        "Add `name` to the facts of each intention, or to the `returns` of an outcome.",
    ),
    "not everybody fills a placeholder": (
        "    facts: {code: HP2, day: Friday}\n",
        "    facts: {code: HP2}\n",
        "nothing fills {day}",
        "Not every intention has it: add `day` to the facts of each.",
        "    end: See you on {day}.\n",
        "    end: See you on {day}.  # here\n",
    ),
    "a placeholder in an example": (
        'examples: ["{day}"]\n',
        'examples: [Well, "{dya}"]  # here\n',
        "nothing fills {dya}",
        "Add `dya`",
    ),
    "a placeholder in an argument": (
        '    arguments: {code: "{code}"}\n',
        '    arguments: {code: "{cod}"}  # here\n',
        "nothing fills {cod}",
        "Add `cod`",
    ),
    "a placeholder in an anytime node": (
        "    say: One moment, please.\n",
        "    say: One moment, {name}.  # here\n",
        "nothing fills {name}",
        "Add `name`",
    ),
    "node twice": (
        "  bye_lost:\n",
        "  bye:  # here\n",
        '"bye" is defined twice',
        "It stands on line 44 too: rename one.",
    ),
    "two kinds of node": (
        "  bye:\n    end: See you on {day}.\n",
        "  bye:  # here\n    end: See you on {day}.\n    say: Bye.\n",
        "nodes.bye: a node has exactly one of `say`, `call` and `end`",
        "",
    ),
    "no kind of node": (
        "  bye:\n    end: See you on {day}.\n",
        "  bye:  # here\n    ends: See you on {day}.\n",
        "nodes.bye: a node has exactly one of `say`, `call` and `end`",
        "",
    ),
    "replies missing": (
        '    replies:\n      day:\n        to: bye\n        examples: ["{day}"]\n',
        "",
        "nodes.ask_day.replies is missing",
        "Add `replies:` here.",
        "  ask_day:\n",
        "  ask_day:  # here\n",
    ),
    "title missing": (
        "workflow: parcel\ntitle: Bring a parcel again\n",
        "workflow: parcel  # here\n",
        "title is missing",
        "Add `title:` here.",
    ),
    "unknown field": (
        "start: ask_code\n",
        "start: ask_code\nanytimes: {}  # here\n",
        "anytimes is not a known field",
        'Did you mean "anytime"?',
    ),
    "unknown field of a part": (
        "  persona: I plan the vans.\n",
        "  persona: I plan the vans.\n  roll: x  # here\n",
        "agent.roll is not a known field",
        'Did you mean "role"?',
    ),
    "an id with a blank": (
        "workflow: parcel\n",
        "workflow: my parcel  # here\n",
        "workflow: String should match pattern",
        "",
    ),
    "an empty text": ("    say: Which code?\n", '    say: ""  # here\n', "nodes.ask_code.say: ", ""),
    "a number for a text": ("    say: Which code?\n", "    say: 12  # here\n", "nodes.ask_code.say: ", ""),
    "a weight of nothing": (
        "        to: ask_day\n",
        "        to: ask_day\n        weight: 0  # here\n",
        "nodes.track.outcomes.found.weight: Input should be greater than 0 (got 0)",
        "",
    ),
    "an unknown kind of ending": (
        "    outcome: failure\n",
        "    outcome: disaster  # here\n",
        "nodes.bye_lost.outcome: should be 'success' or 'failure' (got 'disaster')",
        "",
    ),
    "a fact with a capital": (
        "facts: {code: HP2, day: Friday}\n",
        "facts: {code: HP2, day: Friday, Street: x}  # here\n",
        "intentions.1.facts.Street",
        "",
    ),
    "not YAML": ("    say: Which code?\n", "    say: Which code?: no  # here\n", "not valid YAML: ", ""),
}

# Mistakes that are named on other lines too: what leads to a dead end is one, a text is used twice, and an intention
# that can't be read is missing.
FOLLOWED = {
    "needless loop",
    "dead end",
    "a loop without a way out",
    "no outcomes",
    "not everybody fills a placeholder",
    "a fact with a capital",
}


def problems_of(text: str) -> InvalidInput:
    with pytest.raises(InvalidInput) as caught:
        load_workflow(text, "parcel.yaml")
    return caught.value


def test_the_sound_file_is_sound() -> None:
    workflow = load_workflow(SOUND, "parcel.yaml")
    assert workflow.id == "parcel"
    assert workflow.longest_path == 3


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_named_with_its_line_and_fix(name: str) -> None:
    old, new, message, fix, *more = MISTAKES[name]
    assert SOUND.count(old) == 1
    text = SOUND.replace(old, new)
    if more:
        assert text.count(more[0]) == 1
        text = text.replace(*more)
    (here,) = [number for number, line in enumerate(text.splitlines(), start=1) if line.endswith("# here")]
    found = problems_of(text).problems
    assert any(problem.line == here and message in problem.message and fix in problem.fix for problem in found), found
    assert {problem.file for problem in found} == {"parcel.yaml"}
    if name not in FOLLOWED:
        assert {problem.line for problem in found} == {here}


def test_all_mistakes_are_named_at_once_in_the_order_of_the_file() -> None:
    text = SOUND.replace("to: track\n", "to: trak\n").replace("  - id: lamp\n", "  - id: books\n")
    text = text.replace("        default: true\n", "")
    found = problems_of(text).problems
    assert [problem.line for problem in found] == sorted(problem.line for problem in found)
    assert len(found) == 3
    assert str(problems_of(text)).count("parcel.yaml:") == 3


def test_a_problem_reads_as_a_person_would_say_it() -> None:
    assert str(problems_of(SOUND.replace("to: track\n", "to: trak\n"))) == (
        'parcel.yaml:23: edge "gives_code" of node "ask_code" leads to "trak", which is not a node\n'
        '    Did you mean "track" (line 28)?'
    )


@pytest.mark.parametrize(
    ("old", "new", "known"),
    [
        ("    outcome: failure\n", "    outcom: failure\n", "outcome"),
        ("        loop: true\n", "        lop: true\n", "loop"),
        ("    goal: get a lamp\n", "    gaol: get a lamp\n", "goal"),
        ("    when: [Hurry up!]\n", "    wen: [Hurry up!]\n", "when"),
    ],
    ids=["node", "edge", "intention", "anytime"],
)
def test_an_unknown_field_within_a_list_or_mapping_is_answered_with_the_closest(old: str, new: str, known: str) -> None:
    fixes = [problem.fix for problem in problems_of(SOUND.replace(old, new)).problems]
    assert f'Did you mean "{known}"?' in fixes


@pytest.mark.parametrize(
    ("old", "new"),
    [("{depot: North Gate}", '{depot: "{gate}"}'), ("when: [Hurry up!]", 'when: ["Hurry up, {name}!"]')],
    ids=["returns", "when"],
)
def test_a_placeholder_that_nothing_fills_is_found_everywhere(old: str, new: str) -> None:
    problems_of(SOUND.replace(old, new))
