"""Scores of a dialogue: the walk over the graph, and what else its words tell. `nodes` is held by test_alignment."""

from collections.abc import Mapping, Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rouge_score import rouge_scorer, tokenizers

from duologue.core.campaign import METRICS
from duologue.core.dialogue import Role
from duologue.core.scores import Scores, Utterance, branch_depth, relative_depth, score_dialogue
from duologue.core.workflow import CallNode, EndNode, Workflow, fill
from duologue.core.workflow_file import load_workflow

SCORER = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=False)
TOKENIZER = tokenizers.DefaultTokenizer(use_stemmer=False)

# Two branches of different length, a call between questions, a declared loop, two endings and an aside.
PARCEL = load_workflow("""\
workflow: parcel
title: Bring a parcel again
agent: {role: a dispatcher, persona: I plan the vans.}
intentions: [{id: books, goal: get a box of books, facts: {code: HP1, day: Monday}}]
start: greet
nodes:
  greet:
    say: Harrow Parcels, did you miss a delivery?
    replies:
      "yes": {to: ask_code, default: true}
      "no": {to: bye_wrong, examples: [No.]}
  ask_code:
    say: "Then tell me the tracking code on your card."
    replies: {code: {to: track, default: true}}
  track:
    call: track
    outcomes:
      found: {to: ask_day, returns: {depot: North Gate}}
      unknown: {to: ask_code, loop: true}
      lost: {to: bye_lost}
  ask_day:
    say: "It waits at {depot}. Which day suits you best?"
    replies:
      day: {to: bye, examples: ["{day}"]}
      other: {to: ask_code, loop: true, examples: [It is another parcel.]}
  bye: {end: "Our van comes on {day}. Goodbye!"}
  bye_lost: {end: Sorry but nobody knows where that parcel went, outcome: failure}
  bye_wrong: {end: Please call somebody else instead, outcome: failure}
anytime:
  wait: {say: One moment please while I look.}
""")
FACTS = {"code": "HP1", "day": "Monday", "depot": "North Gate"}
SAID = {name: fill(node.text, FACTS) for name, node in (*PARCEL.spoken.items(), *PARCEL.anytime.items())}
LOOPLESS = load_workflow("""\
workflow: short
title: A short one
agent: {role: a clerk, persona: I am calm.}
intentions: [{id: ask, goal: ask}]
start: choose
nodes:
  choose: {call: choose, outcomes: {a: {to: first}, b: {to: other}}}
  first: {say: "Would you like tea or coffee?", replies: {any: {to: second, default: true}}}
  second: {say: "With milk and sugar or without?", replies: {any: {to: done, default: true}}}
  other: {say: "Would you like a newspaper?", replies: {any: {to: done, default: true}}}
  done: {end: Here you are. Enjoy!}
""")

AGENT, CLIENT, TOOL = Role.AGENT, Role.CLIENT, Role.TOOL


def spoken(*texts: str) -> list[Utterance]:
    return [Utterance(AGENT, text) for text in texts]


def performing(*names: str) -> list[Utterance]:
    return spoken(*(SAID[name] for name in names))


def score(turns: Sequence[Utterance], facts: Mapping[str, str] | None = FACTS) -> Scores:
    return score_dialogue(turns, PARCEL, facts)


# Walks


@pytest.mark.parametrize(
    ("names", "steps", "branch", "success"),
    [
        ([], 0, 0, False),
        (["greet"], 1, 1 / 4, False),
        (["greet", "ask_code"], 2, 2 / 4, False),
        (["greet", "ask_code", "ask_day", "bye"], 4, 1, True),
        (["greet", "bye_wrong"], 2, 1, False),
        (["greet", "ask_code", "bye_lost"], 3, 1, False),
        (["wait", "greet", "wait", "ask_code"], 2, 2 / 4, False),
        (["ask_code", "ask_day", "bye"], 0, 0, False),
        (["greet", "ask_day", "bye"], 1, 1 / 4, False),
        (["greet", "greet", "ask_code"], 2, 2 / 4, False),
        (["greet", "ask_code", "ask_code", "ask_day", "ask_code", "ask_day", "bye"], 4, 1, True),
        (["greet", "ask_code", "ask_day", "ask_code"], 3, 3 / 4, False),
        (["greet", "ask_code", "ask_day", "bye", "greet"], 4, 1, True),
    ],
)
def test_a_walk_passes_the_nodes_in_order_and_counts_each_once(
    names: list[str], steps: int, branch: float, success: bool
) -> None:
    scores = score(performing(*names))
    assert scores.subgoals_absolute == steps
    assert scores.subgoals_relative == pytest.approx(steps / 4)
    assert scores.subgoals_branch == pytest.approx(branch)
    assert scores.success is success


def test_an_utterance_takes_the_edge_whose_reference_is_closest() -> None:
    scores = score_dialogue(spoken("Would you like a nice newspaper?", "Here you are. Enjoy!"), LOOPLESS)
    assert (scores.subgoals_absolute, scores.subgoals_branch, scores.success) == (2, 1, True)
    assert scores.subgoals_relative == pytest.approx(2 / 3)


def test_an_utterance_that_is_far_from_every_reference_takes_no_edge() -> None:
    assert score(spoken("Something else altogether.")).subgoals_absolute == 0
    # ROUGE-L F1 of one word in common: 2 * 1 / (7 + n) with a reference of seven words.
    assert score(spoken("Harrow Parcels is here")).subgoals_absolute == 1  # 4/11
    assert score(spoken("Harrow Parcels is all that I said")).subgoals_absolute == 0  # 4/14


DAY = load_workflow("""\
workflow: day
title: The day
agent: {role: a clerk, persona: I am calm.}
intentions: [{id: ask, goal: ask, facts: {day: Monday, place: North Gate}}]
start: ask
nodes:
  ask: {say: "{day} at {place}?", replies: {any: {to: bye, default: true}}}
  bye: {end: Goodbye then.}
""")


@pytest.mark.parametrize(
    ("text", "facts", "steps"),
    [
        ("Monday at North Gate", {"day": "Monday", "place": "North Gate"}, 1),
        ("Monday North Gate", {"day": "Monday", "place": "North Gate"}, 1),
        ("Monday North Gate", {}, 0),
        ("At", {}, 1),
        ("Day at place", {}, 1),
        ("Tuesday in South Street", {"day": "Monday", "place": "North Gate"}, 0),
    ],
)
def test_placeholders_are_filled_with_the_facts_and_left_out_without(
    text: str, facts: dict[str, str], steps: int
) -> None:
    assert score_dialogue(spoken(text), DAY, facts).subgoals_absolute == steps
    assert score_dialogue(spoken(text), DAY, facts or None).subgoals_absolute == steps


def test_what_client_and_tools_say_does_not_move_the_walk() -> None:
    turns = [Utterance(role, text) for role in (CLIENT, TOOL) for text in SAID.values()]
    assert score(turns).subgoals_absolute == 0
    assert score(turns).nodes == ()


def test_a_branch_is_measured_from_where_the_walk_got_to() -> None:
    assert branch_depth([], PARCEL) == 0
    assert branch_depth(["greet", "ask_code", "bye_lost"], PARCEL) == 1
    assert branch_depth(["greet", "ask_code"], PARCEL) == 2 / 4
    assert branch_depth(["other"], LOOPLESS) == 1 / 2
    assert relative_depth(1, LOOPLESS) == 1 / 3
    assert relative_depth(9, LOOPLESS) == 1


# Repeats, role leaks, words


@pytest.mark.parametrize(
    ("names", "repeats"),
    [
        (["greet", "ask_code", "ask_day", "bye"], 0),
        (["greet", "greet"], 1),
        (["greet", "ask_code", "greet"], 1),
        (["greet", "ask_code", "ask_code"], 0),  # the call's outcome "unknown" leads back on purpose
        (["greet", "ask_code", "ask_day", "ask_code", "ask_day"], 0),
        (["greet", "ask_code", "ask_day", "ask_day", "ask_day"], 2),
        (["wait", "wait", "wait"], 0),
        (["greet", "wait", "greet"], 1),
    ],
)
def test_a_node_that_comes_again_without_a_loop_is_a_repeat(names: list[str], repeats: int) -> None:
    assert score(performing(*names)).repeats == repeats


def test_what_the_agent_was_told_to_ask_again_is_no_repeat() -> None:
    told = Utterance(AGENT, SAID["greet"], again=True)
    assert score([*performing("greet"), told, told, *performing("ask_code")]).repeats == 0
    assert score([*performing("greet"), told, *performing("greet")]).repeats == 1


def test_an_ending_that_the_walk_reached_counts_though_another_node_is_closer_by_its_words() -> None:
    twins = load_workflow("""\
workflow: twins
title: Endings that sound alike
agent: {role: a clerk, persona: I am calm.}
intentions: [{id: ask, goal: ask}]
start: ask
nodes:
  ask: {say: "Would you like tea or coffee?", replies: {any: {to: bye, default: true}}}
  bye: {end: "Goodbye to you then and thanks for all the tea."}
anytime:
  thanks: {say: "Thanks for all the coffee and cake today."}
""")
    scores = score_dialogue(spoken("Would you like tea or coffee?", "Thanks for all the coffee today."), twins)
    assert scores.nodes == ("ask", "thanks")
    assert (scores.success, scores.ended) == (True, True)


@pytest.mark.parametrize(
    ("text", "leaks"),
    [
        ("Hello there.", 0),
        ("Client: hello", 1),
        ("Fine.\nAgent: And you?", 1),
        ("Fine. customer : no", 1),
        ("USER: x Assistant: y", 1),
        ("My agent: is the best", 1),
        ("The travelagent: closed", 0),
        ("I am a client, really", 0),
    ],
)
def test_an_utterance_that_writes_the_other_side_is_a_leak(text: str, leaks: int) -> None:
    assert score([Utterance(AGENT, text)]).role_leaks == leaks
    assert score([Utterance(CLIENT, text), Utterance(AGENT, text)]).role_leaks == 2 * leaks
    assert score([Utterance(TOOL, text)]).role_leaks == 0


def test_every_metric_of_a_campaign_file_is_a_score() -> None:
    assert set(METRICS) == set(Scores.__dataclass_fields__) - {"nodes"}


# Random dialogues

some = settings(max_examples=50)


@st.composite
def utterances(draw: st.DrawFn, texts: Sequence[str]) -> str:
    """Something near a reference, or not."""
    words = draw(st.sampled_from(texts)).split()
    first, last = sorted((draw(st.integers(0, len(words))), draw(st.integers(0, len(words)))))
    kept = [word for word in words[first:last] if draw(st.integers(0, 9))]
    return draw(st.sampled_from((" ".join(kept), " ".join(words), "something else", draw(st.text(max_size=10)))))


def dialogues(texts: Sequence[str]) -> st.SearchStrategy[list[Utterance]]:
    role = st.sampled_from([AGENT, AGENT, AGENT, CLIENT, TOOL])
    return st.lists(st.builds(Utterance, role, utterances(texts)), max_size=10)


PARCEL_DIALOGUES = dialogues(list(SAID.values()))
SHORT_DIALOGUES = dialogues([node.text for node in LOOPLESS.spoken.values()])


def reference_walk(workflow: Workflow, turns: Sequence[Utterance], facts: Mapping[str, str]) -> list[str]:
    """METHOD's walk, written with rouge_score alone."""

    def spoken_from(name: str, seen: tuple[str, ...] = ()) -> list[str]:
        node = workflow.nodes[name]
        if name in seen:
            return []
        if not isinstance(node, CallNode):
            return [name]
        return [found for outcome in node.outcomes.values() for found in spoken_from(outcome.to, (*seen, name))]

    walk: list[str] = []
    candidates = spoken_from(workflow.start)
    for turn in turns:
        if turn.role is not AGENT or not candidates:
            continue
        rouge = {
            name: SCORER.score(fill(workflow.spoken[name].text, facts), turn.text)["rougeL"].fmeasure
            for name in candidates
        }
        best = max(rouge, key=rouge.__getitem__)
        if rouge[best] > 0.33:
            walk.append(best)
            edges = workflow.nodes[best].edges.values()
            candidates = list(dict.fromkeys(found for edge in edges for found in spoken_from(edge.to)))
    return walk


@some
@given(PARCEL_DIALOGUES)
@example(performing("greet", "ask_code", "ask_day", "ask_code", "bye_lost"))
def test_the_walk_is_that_of_the_slow_reference(turns: list[Utterance]) -> None:
    scores = score(turns)
    walk = reference_walk(PARCEL, turns, FACTS)
    assert scores.subgoals_absolute == len(set(walk))
    assert scores.subgoals_relative == pytest.approx(min(len(set(walk)) / 4, 1), abs=1e-9)
    reached = PARCEL.nodes[walk[-1]] if walk else None
    assert scores.success == (isinstance(reached, EndNode) and reached.outcome == "success")


@some
@given(PARCEL_DIALOGUES)
def test_words_and_ngrams_are_those_of_the_slow_reference(turns: list[Utterance]) -> None:
    tokens = [TOKENIZER.tokenize(turn.text) for turn in turns if turn.role is not TOOL]
    grams = {tuple(of_one[i : i + n]) for of_one in tokens for n in range(1, 6) for i in range(len(of_one) - n + 1)}
    scores = score(turns)
    assert scores.words == len({word for of_one in tokens for word in of_one})
    assert scores.ngrams == len(grams)


@some
@given(PARCEL_DIALOGUES, st.booleans())
def test_scores_stay_in_their_ranges(turns: list[Utterance], with_facts: bool) -> None:
    scores = score(turns, FACTS if with_facts else None)
    agent_turns = sum(turn.role is AGENT for turn in turns)
    assert 0 <= scores.subgoals_absolute <= min(agent_turns, len(PARCEL.spoken))
    assert 0 <= scores.subgoals_relative <= 1
    assert 0 <= scores.subgoals_branch <= 1
    assert (scores.subgoals_absolute == 0) == (scores.subgoals_branch == 0) == (scores.subgoals_relative == 0)
    assert scores.words <= scores.ngrams or scores.words == 0
    assert 0 <= scores.repeats < max(agent_turns, 1)
    assert 0 <= scores.role_leaks <= len(turns)
    assert len(scores.nodes) == agent_turns
    assert set(scores.nodes) <= {None, *SAID}
    assert scores.ended >= any(isinstance(PARCEL.nodes.get(name or ""), EndNode) for name in scores.nodes)
    if scores.success:
        assert (scores.subgoals_branch, scores.ended) == (1, True)


@some
@given(SHORT_DIALOGUES)
def test_without_loops_no_walk_is_longer_than_the_longest_path(turns: list[Utterance]) -> None:
    scores = score_dialogue(turns, LOOPLESS)
    assert scores.subgoals_absolute <= LOOPLESS.longest_path
    assert scores.subgoals_relative == scores.subgoals_absolute / LOOPLESS.longest_path
    assert scores.subgoals_relative <= scores.subgoals_branch


@some
@given(PARCEL_DIALOGUES, PARCEL_DIALOGUES)
def test_more_turns_never_lower_what_was_reached(turns: list[Utterance], more: list[Utterance]) -> None:
    before, after = score(turns), score([*turns, *more])
    for name in ("words", "ngrams", "subgoals_absolute", "subgoals_relative", "repeats", "role_leaks", "ended"):
        assert getattr(before, name) <= getattr(after, name)
    assert after.nodes[: len(before.nodes)] == before.nodes
